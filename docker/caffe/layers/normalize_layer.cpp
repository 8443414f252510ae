#include "caffe/layers/normalize_layer.hpp"

#include <cmath>
#include <vector>

#include "caffe/filler.hpp"

namespace caffe {

template <typename Dtype>
void NormalizeLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const NormalizeParameter& param = this->layer_param_.norm_param();
  CHECK_GE(bottom[0]->num_axes(), 2) << this->layer_param_.name() << ": the bottom needs at least 2 axes";
  across_spatial_ = param.across_spatial();
  channel_shared_ = param.channel_shared();
  if (this->blobs_.empty()) {
    const vector<int> shape = channel_shared_ ? vector<int>() : vector<int>(1, bottom[0]->shape(1));
    this->blobs_.push_back(shared_ptr<Blob<Dtype> >(new Blob<Dtype>(shape)));
    FillerParameter filler = param.scale_filler();
    if (!param.has_scale_filler()) {
      filler.set_type("constant");
      filler.set_value(1);
    }
    shared_ptr<Filler<Dtype> >(GetFiller<Dtype>(filler))->Fill(this->blobs_[0].get());
  }
  CHECK_EQ(this->blobs_[0]->count(), channel_shared_ ? 1 : bottom[0]->shape(1))
      << this->layer_param_.name() << ": the scale has another number of values than the prototxt asks for";
  this->param_propagate_down_.resize(1, true);
}

template <typename Dtype>
void NormalizeLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  top[0]->ReshapeLike(*bottom[0]);
  norm_.resize(bottom[0]->shape(0) * (across_spatial_ ? 1 : bottom[0]->count(2)));
}

template <typename Dtype>
void NormalizeLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int channels = bottom[0]->shape(1), positions = bottom[0]->count(2), count = bottom[0]->count();
  const Dtype* from = bottom[0]->cpu_data();
  const Dtype* scale = this->blobs_[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  const auto norm_of = [=](int i) {
    const int image = i / (channels * positions);
    return across_spatial_ ? image : image * positions + i % positions;
  };
  norm_.assign(norm_.size(), this->layer_param_.norm_param().eps());
  for (int i = 0; i < count; ++i) {
    norm_[norm_of(i)] += double(from[i]) * from[i];
  }
  for (double& norm : norm_) {
    norm = std::sqrt(norm);
  }
  for (int i = 0; i < count; ++i) {
    to[i] = from[i] / norm_[norm_of(i)] * scale[channel_shared_ ? 0 : i / positions % channels];
  }
}

// With n the norm, s the scale, g the top's diff: bottom's diff = s*g/n - bottom/n^3 * sum(s*g*bottom),
// the scale's = sum(g*bottom/n).
template <typename Dtype>
void NormalizeLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                         const vector<Blob<Dtype>*>& bottom) {
  const int channels = bottom[0]->shape(1), positions = bottom[0]->count(2), count = bottom[0]->count();
  const Dtype* x = bottom[0]->cpu_data();
  const Dtype* g = top[0]->cpu_diff();
  const Dtype* scale = this->blobs_[0]->cpu_data();
  const auto norm_of = [=](int i) {
    const int image = i / (channels * positions);
    return across_spatial_ ? image : image * positions + i % positions;
  };
  const auto scale_of = [=](int i) { return channel_shared_ ? 0 : i / positions % channels; };
  if (this->param_propagate_down_[0]) {
    Dtype* scale_diff = this->blobs_[0]->mutable_cpu_diff();
    for (int i = 0; i < count; ++i) {
      scale_diff[scale_of(i)] += g[i] * x[i] / norm_[norm_of(i)];
    }
  }
  if (propagate_down[0]) {
    CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": Normalize has no backward pass in place";
    Dtype* diff = bottom[0]->mutable_cpu_diff();
    vector<double> sum(norm_.size(), 0);
    for (int i = 0; i < count; ++i) {
      sum[norm_of(i)] += double(scale[scale_of(i)]) * g[i] * x[i];
    }
    for (int i = 0; i < count; ++i) {
      const double norm = norm_[norm_of(i)];
      diff[i] = scale[scale_of(i)] * g[i] / norm - x[i] * sum[norm_of(i)] / (norm * norm * norm);
    }
  }
}

INSTANTIATE_CLASS(NormalizeLayer);
REGISTER_LAYER_CLASS(Normalize);

}  // namespace caffe
