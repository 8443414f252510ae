#include "caffe/layers/shuffle_channel_layer.hpp"

#include <vector>

#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void ShuffleChannelLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  group_ = this->layer_param_.shuffle_channel_param().group();
  CHECK_GT(group_, 0) << this->layer_param_.name() << ": group must be at least 1";
}

template <typename Dtype>
void ShuffleChannelLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_GE(bottom[0]->num_axes(), 2) << this->layer_param_.name() << ": the bottom needs at least 2 axes";
  CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": ShuffleChannel does not work in place";
  CHECK_EQ(bottom[0]->shape(1) % group_, 0) << this->layer_param_.name() << ": group must divide the channels";
  top[0]->ReshapeLike(*bottom[0]);
}

template <typename Dtype>
void ShuffleChannelLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int channels = bottom[0]->shape(1), positions = bottom[0]->count(2), in_group = channels / group_;
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int n = 0; n < bottom[0]->shape(0); ++n, to += channels * positions) {
    for (int g = 0; g < group_; ++g) {
      for (int c = 0; c < in_group; ++c, from += positions) {
        caffe_copy(positions, from, to + (c * group_ + g) * positions);
      }
    }
  }
}

template <typename Dtype>
void ShuffleChannelLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                              const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  const int channels = bottom[0]->shape(1), positions = bottom[0]->count(2), in_group = channels / group_;
  const Dtype* from = top[0]->cpu_diff();
  Dtype* to = bottom[0]->mutable_cpu_diff();
  for (int n = 0; n < bottom[0]->shape(0); ++n, from += channels * positions) {
    for (int g = 0; g < group_; ++g) {
      for (int c = 0; c < in_group; ++c, to += positions) {
        caffe_copy(positions, from + (c * group_ + g) * positions, to);
      }
    }
  }
}

INSTANTIATE_CLASS(ShuffleChannelLayer);
REGISTER_LAYER_CLASS(ShuffleChannel);

}  // namespace caffe
