#include "caffe/layers/crelu_layer.hpp"

#include <algorithm>
#include <vector>

namespace caffe {

template <typename Dtype>
void CReLULayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_GE(bottom[0]->num_axes(), 2) << this->layer_param_.name() << ": the bottom needs at least 2 axes";
  CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": CReLU does not work in place";
  vector<int> shape = bottom[0]->shape();
  shape[1] *= 2;
  top[0]->Reshape(shape);
}

template <typename Dtype>
void CReLULayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int values = bottom[0]->count(1);  // of one image
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int n = 0; n < bottom[0]->shape(0); ++n, from += values, to += 2 * values) {
    for (int i = 0; i < values; ++i) {
      to[i] = std::max(from[i], Dtype(0));
      to[values + i] = std::max(-from[i], Dtype(0));
    }
  }
}

INSTANTIATE_CLASS(CReLULayer);
REGISTER_LAYER_CLASS(CReLU);

}  // namespace caffe
