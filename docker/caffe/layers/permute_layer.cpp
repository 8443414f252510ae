#include "caffe/layers/permute_layer.hpp"

#include <algorithm>
#include <vector>

namespace caffe {

template <typename Dtype>
void PermuteLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int axes = bottom[0]->num_axes();
  order_.clear();
  for (const int axis : this->layer_param_.permute_param().order()) {
    CHECK(axis >= 0 && axis < axes) << this->layer_param_.name() << ": the bottom has no axis " << axis;
    CHECK(std::find(order_.begin(), order_.end(), axis) == order_.end())
        << this->layer_param_.name() << ": axis " << axis << " stands twice in order";
    order_.push_back(axis);
  }
  for (int axis = 0; axis < axes; ++axis) {
    if (std::find(order_.begin(), order_.end(), axis) == order_.end()) {
      order_.push_back(axis);
    }
  }
}

template <typename Dtype>
void PermuteLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int axes = order_.size();
  CHECK_EQ(bottom[0]->num_axes(), axes) << this->layer_param_.name() << ": the number of axes cannot change";
  CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": Permute does not work in place";
  vector<int> shape(axes);
  for (int i = 0; i < axes; ++i) {
    shape[i] = bottom[0]->shape(order_[i]);
  }
  top[0]->Reshape(shape);

  source_.resize(top[0]->count());
  vector<int> position(axes, 0);  // in the top
  int index = 0;                  // in the bottom
  for (int& source : source_) {
    source = index;
    for (int i = axes - 1; i >= 0; --i) {
      const int step = bottom[0]->count(order_[i] + 1);
      index += step;
      if (++position[i] < shape[i]) {
        break;
      }
      position[i] = 0;
      index -= shape[i] * step;
    }
  }
}

template <typename Dtype>
void PermuteLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype* from = bottom[0]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (size_t i = 0; i < source_.size(); ++i) {
    to[i] = from[source_[i]];
  }
}

template <typename Dtype>
void PermuteLayer<Dtype>::Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                                       const vector<Blob<Dtype>*>& bottom) {
  if (!propagate_down[0]) {
    return;
  }
  const Dtype* from = top[0]->cpu_diff();
  Dtype* to = bottom[0]->mutable_cpu_diff();
  for (size_t i = 0; i < source_.size(); ++i) {
    to[source_[i]] = from[i];
  }
}

INSTANTIATE_CLASS(PermuteLayer);
REGISTER_LAYER_CLASS(Permute);

}  // namespace caffe
