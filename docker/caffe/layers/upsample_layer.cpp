#include "caffe/layers/upsample_layer.hpp"

#include <vector>

#include "caffe/util/math_functions.hpp"

namespace caffe {

template <typename Dtype>
void UpsampleLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const UpsampleParameter& param = this->layer_param_.upsample_param();
  CHECK(!param.has_upsample_h() && !param.has_upsample_w() && !param.pad_out_h() && !param.pad_out_w())
      << this->layer_param_.name() << ": upsample_param takes scale, or scale_h and scale_w, and nothing else";
  // The default of scale differs between the vendors' copies, so it does not count as a statement.
  CHECK_NE(param.has_scale(), param.has_scale_h() || param.has_scale_w())
      << this->layer_param_.name() << ": upsample_param needs either scale, or scale_h and scale_w";
  CHECK_EQ(param.has_scale_h(), param.has_scale_w())
      << this->layer_param_.name() << ": upsample_param needs both of scale_h and scale_w";
  scale_h_ = param.has_scale() ? param.scale() : param.scale_h();
  scale_w_ = param.has_scale() ? param.scale() : param.scale_w();
  CHECK_GT(scale_h_, 0) << this->layer_param_.name() << ": a scale is at least 1";
  CHECK_GT(scale_w_, 0) << this->layer_param_.name() << ": a scale is at least 1";
}

template <typename Dtype>
void UpsampleLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  CHECK_EQ(bottom[0]->num_axes(), 4) << this->layer_param_.name() << ": the bottom must have 4 axes";
  CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": Upsample does not work in place";
  vector<int> shape = bottom[0]->shape();
  shape[2] *= scale_h_;
  shape[3] *= scale_w_;
  top[0]->Reshape(shape);
}

template <typename Dtype>
void UpsampleLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int rows = bottom[0]->count(0, 3), width = bottom[0]->shape(3), top_width = top[0]->shape(3);
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int row = 0; row < rows; ++row, from += width) {
    for (int x = 0; x < top_width; ++x) {
      to[x] = from[x / scale_w_];
    }
    for (int copy = 1; copy < scale_h_; ++copy) {
      caffe_copy(top_width, to, to + copy * top_width);
    }
    to += scale_h_ * top_width;
  }
}

template <typename Dtype>
void UpsampleLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                        const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  const int top_rows = top[0]->count(0, 3), width = bottom[0]->shape(3), top_width = top[0]->shape(3);
  const Dtype* from = top[0]->cpu_diff();
  Dtype* to = bottom[0]->mutable_cpu_diff();
  caffe_set(bottom[0]->count(), Dtype(0), to);
  for (int row = 0; row < top_rows; ++row, from += top_width) {
    for (int x = 0; x < top_width; ++x) {
      to[row / scale_h_ * width + x / scale_w_] += from[x];
    }
  }
}

INSTANTIATE_CLASS(UpsampleLayer);
REGISTER_LAYER_CLASS(Upsample);

}  // namespace caffe
