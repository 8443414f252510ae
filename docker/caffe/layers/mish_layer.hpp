#ifndef CAFFE_MISH_LAYER_HPP_
#define CAFFE_MISH_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layers/neuron_layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// x * tanh(log(1 + exp(x)))
template <typename Dtype>
class MishLayer : public NeuronLayer<Dtype> {
 public:
  explicit MishLayer(const LayerParameter& param) : NeuronLayer<Dtype>(param) {}
  const char* type() const override { return "Mish"; }

 protected:
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                    const vector<Blob<Dtype>*>& bottom) override {
    NOT_IMPLEMENTED;
  }
};

}  // namespace caffe

#endif  // CAFFE_MISH_LAYER_HPP_
