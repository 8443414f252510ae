#include "caffe/layers/mish_layer.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace caffe {

template <typename Dtype>
void MishLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int i = 0; i < bottom[0]->count(); ++i) {
    // log(1 + exp(x)) without an exponential that overflows
    const Dtype softplus = std::max(from[i], Dtype(0)) + std::log1p(std::exp(-std::abs(from[i])));
    to[i] = from[i] * std::tanh(softplus);
  }
}

INSTANTIATE_CLASS(MishLayer);
REGISTER_LAYER_CLASS(Mish);

}  // namespace caffe
