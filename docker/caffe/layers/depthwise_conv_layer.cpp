#include "caffe/layers/depthwise_conv_layer.hpp"

#include <vector>

namespace caffe {

template <typename Dtype>
void DepthwiseConvLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  ConvolutionParameter* param = this->layer_param_.mutable_convolution_param();
  CHECK(!param->has_group()) << this->layer_param_.name() << ": a DepthwiseConv layer takes no group";
  const int channels = bottom[0]->shape(bottom[0]->CanonicalAxisIndex(param->axis()));
  CHECK_EQ(param->num_output() % channels, 0)
      << this->layer_param_.name() << ": num_output must be a multiple of the " << channels << " input channels";
  param->set_group(channels);
  ConvolutionLayer<Dtype>::LayerSetUp(bottom, top);
  // Net::ToProto saves the parameters of each layer, and they must read as they were given.
  param->clear_group();
}

INSTANTIATE_CLASS(DepthwiseConvLayer);
REGISTER_LAYER_CLASS(DepthwiseConv);

}  // namespace caffe
