#ifndef CAFFE_DEPTHWISE_CONV_LAYER_HPP_
#define CAFFE_DEPTHWISE_CONV_LAYER_HPP_

#include <vector>

#include "caffe/layers/conv_layer.hpp"

namespace caffe {

// Convolution whose group is the number of its input channels C, which the prototxt does not say.
// Weights (num_output, 1, kernel_h, kernel_w); num_output is a multiple m * C, and top channel k
// reads bottom channel k / m.
template <typename Dtype>
class DepthwiseConvLayer : public ConvolutionLayer<Dtype> {
 public:
  explicit DepthwiseConvLayer(const LayerParameter& param) : ConvolutionLayer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  const char* type() const override { return "DepthwiseConv"; }
};

}  // namespace caffe

#endif  // CAFFE_DEPTHWISE_CONV_LAYER_HPP_
