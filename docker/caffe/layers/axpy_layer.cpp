#include "caffe/layers/axpy_layer.hpp"

#include <vector>

namespace caffe {

template <typename Dtype>
void AxpyLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_GE(bottom[1]->num_axes(), 2) << this->layer_param_.name() << ": the second bottom needs at least 2 axes";
  CHECK(bottom[1]->shape() == bottom[2]->shape())
      << this->layer_param_.name() << ": the second and the third bottom must have one shape";
  CHECK_GE(bottom[0]->num_axes(), 2) << this->layer_param_.name() << ": the first bottom needs at least 2 axes";
  CHECK(bottom[0]->shape(0) == bottom[1]->shape(0) && bottom[0]->shape(1) == bottom[1]->shape(1) &&
        bottom[0]->count(2) == 1)
      << this->layer_param_.name() << ": the first bottom must hold a value for each image and channel";
  top[0]->ReshapeLike(*bottom[1]);
}

template <typename Dtype>
void AxpyLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int planes = bottom[1]->count(0, 2), positions = bottom[1]->count(2);
  const Dtype* a = bottom[0]->cpu_data();
  const Dtype* x = bottom[1]->cpu_data();
  const Dtype* y = bottom[2]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int i = 0; i < planes * positions; ++i) {
    to[i] = a[i / positions] * x[i] + y[i];
  }
}

INSTANTIATE_CLASS(AxpyLayer);
REGISTER_LAYER_CLASS(Axpy);

}  // namespace caffe
