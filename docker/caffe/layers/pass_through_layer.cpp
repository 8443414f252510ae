#include "caffe/layers/pass_through_layer.hpp"

#include <vector>

namespace caffe {

// Calls visit(index in the bottom, index in the top) for each value, in the top's order.
template <typename Visit>
static void ForEachPair(const vector<int>& bottom, int block_h, int block_w, Visit visit) {
  const int channels = bottom[1], height = bottom[2], width = bottom[3];
  int top_index = 0;
  for (int n = 0; n < bottom[0]; ++n) {
    for (int dy = 0; dy < block_h; ++dy) {
      for (int dx = 0; dx < block_w; ++dx) {
        for (int c = 0; c < channels; ++c) {
          const int plane = (n * channels + c) * height;
          for (int y = dy; y < height; y += block_h) {
            for (int x = dx; x < width; x += block_w) {
              visit((plane + y) * width + x, top_index++);
            }
          }
        }
      }
    }
  }
}

template <typename Dtype>
void PassThroughLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const PassThroughParameter& param = this->layer_param_.pass_through_param();
  CHECK(param.has_num_output() && param.has_block_height() && param.has_block_width())
      << this->layer_param_.name() << ": pass_through_param needs num_output, block_height and block_width";
  block_h_ = param.block_height();
  block_w_ = param.block_width();
  CHECK_GT(block_h_, 0) << this->layer_param_.name() << ": a block is at least 1x1";
  CHECK_GT(block_w_, 0) << this->layer_param_.name() << ": a block is at least 1x1";
}

template <typename Dtype>
void PassThroughLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_EQ(bottom[0]->num_axes(), 4) << this->layer_param_.name() << ": the bottom must have 4 axes";
  CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": PassThrough does not work in place";
  vector<int> shape = bottom[0]->shape();
  CHECK_EQ(shape[2] % block_h_, 0) << this->layer_param_.name() << ": block_height must divide the height";
  CHECK_EQ(shape[3] % block_w_, 0) << this->layer_param_.name() << ": block_width must divide the width";
  shape[1] *= block_h_ * block_w_;
  shape[2] /= block_h_;
  shape[3] /= block_w_;
  CHECK_EQ(this->layer_param_.pass_through_param().num_output(), shape[1])
      << this->layer_param_.name() << ": num_output must be block_height * block_width * input channels";
  top[0]->Reshape(shape);
}

template <typename Dtype>
void PassThroughLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  ForEachPair(bottom[0]->shape(), block_h_, block_w_, [&](int source, int target) { to[target] = from[source]; });
}

template <typename Dtype>
void PassThroughLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                           const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* from = top[0]->cpu_diff();
  Dtype* to = bottom[0]->mutable_cpu_diff();
  ForEachPair(bottom[0]->shape(), block_h_, block_w_, [&](int target, int source) { to[target] = from[source]; });
}

INSTANTIATE_CLASS(PassThroughLayer);
REGISTER_LAYER_CLASS(PassThrough);

}  // namespace caffe
