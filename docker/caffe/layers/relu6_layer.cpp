#include "caffe/layers/relu6_layer.hpp"

#include <algorithm>
#include <vector>

namespace caffe {

template <typename Dtype>
void ReLU6Layer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ReLU6Parameter& param = this->layer_param_.relu6_param();
  const Dtype threshold = param.threshold(), slope = param.negative_slope();
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int i = 0; i < bottom[0]->count(); ++i) {
    to[i] = std::min(std::max(from[i], Dtype(0)), threshold) + slope * std::min(from[i], Dtype(0));
  }
}

INSTANTIATE_CLASS(ReLU6Layer);
REGISTER_LAYER_CLASS(ReLU6);

}  // namespace caffe
