#include "caffe/layers/interp_layer.hpp"

#include <algorithm>
#include <vector>

namespace caffe {

template <typename Dtype>
void InterpLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const InterpParameter& param = this->layer_param_.interp_param();
  CHECK(param.has_zoom_factor() || param.has_shrink_factor() || (param.has_height() && param.has_width()))
      << this->layer_param_.name() << ": interp_param needs zoom_factor, shrink_factor, or height and width";
  CHECK(param.zoom_factor() >= 1 && param.shrink_factor() >= 1)
      << this->layer_param_.name() << ": a factor is at least 1";
  CHECK(param.pad_beg() <= 0 && param.pad_end() <= 0) << this->layer_param_.name() << ": a pad that crops is negative";
}

template <typename Dtype>
void InterpLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const InterpParameter& param = this->layer_param_.interp_param();
  CHECK_EQ(bottom[0]->num_axes(), 4) << this->layer_param_.name() << ": the bottom must have 4 axes";
  CHECK(bottom[0] != top[0]) << this->layer_param_.name() << ": Interp does not work in place";
  height_ = bottom[0]->shape(2) + param.pad_beg() + param.pad_end();
  width_ = bottom[0]->shape(3) + param.pad_beg() + param.pad_end();
  CHECK(height_ > 0 && width_ > 0) << this->layer_param_.name() << ": the pads leave nothing";
  const auto resized = [&param](int size) {
    const int shrunk = (size - 1) / param.shrink_factor() + 1;
    return shrunk + (shrunk - 1) * (param.zoom_factor() - 1);
  };
  const bool by_factor = param.has_zoom_factor() || param.has_shrink_factor();
  vector<int> shape = bottom[0]->shape();
  shape[2] = by_factor ? resized(height_) : param.height();
  shape[3] = by_factor ? resized(width_) : param.width();
  CHECK(shape[2] > 0 && shape[3] > 0) << this->layer_param_.name() << ": height and width are at least 1";
  top[0]->Reshape(shape);
}

template <typename Dtype>
void InterpLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const int height = top[0]->shape(2), width = top[0]->shape(3);
  const int first = -this->layer_param_.interp_param().pad_beg(), row_size = bottom[0]->shape(3);
  const float step_y = height > 1 ? float(height_ - 1) / (height - 1) : 0;
  const float step_x = width > 1 ? float(width_ - 1) / (width - 1) : 0;
  const Dtype* plane = bottom[0]->cpu_data() + first * row_size + first;
  Dtype* to = top[0]->mutable_cpu_data();
  for (int i = 0; i < bottom[0]->count(0, 2); ++i, plane += bottom[0]->count(2)) {
    for (int y = 0; y < height; ++y) {
      const int above = step_y * y, below = std::min(above + 1, height_ - 1);
      const Dtype down = step_y * y - above;
      for (int x = 0; x < width; ++x) {
        const int left = step_x * x, right = std::min(left + 1, width_ - 1);
        const Dtype across = step_x * x - left;
        const Dtype* upper = plane + above * row_size;
        const Dtype* lower = plane + below * row_size;
        *to++ = (1 - down) * ((1 - across) * upper[left] + across * upper[right]) +
                down * ((1 - across) * lower[left] + across * lower[right]);
      }
    }
  }
}

INSTANTIATE_CLASS(InterpLayer);
REGISTER_LAYER_CLASS(Interp);

}  // namespace caffe
