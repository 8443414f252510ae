#include "caffe/layers/prior_box_layer.hpp"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

namespace caffe {

template <typename Dtype>
void PriorBoxLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const PriorBoxParameter& param = this->layer_param_.prior_box_param();
  const string& name = this->layer_param_.name();
  CHECK_GT(param.min_size_size(), 0) << name << ": prior_box_param needs min_size";
  CHECK(param.max_size_size() == 0 || param.max_size_size() == param.min_size_size())
      << name << ": there must be as many max_size as min_size";
  for (int i = 0; i < param.min_size_size(); ++i) {
    CHECK_GT(param.min_size(i), 0) << name << ": min_size must be positive";
    CHECK(param.max_size_size() == 0 || param.max_size(i) > param.min_size(i))
        << name << ": max_size must be greater than min_size";
  }
  vector<float> seen(1, 1.f);
  for (const float ratio : param.aspect_ratio()) {
    CHECK_GT(ratio, 0) << name << ": aspect_ratio must be positive";
    if (std::any_of(seen.begin(), seen.end(), [=](float other) { return std::abs(ratio - other) < 1e-6; })) {
      continue;
    }
    seen.push_back(ratio);
    if (param.flip()) {
      seen.push_back(1.f / ratio);
    }
  }
  ratios_.clear();
  std::copy_if(seen.begin(), seen.end(), std::back_inserter(ratios_),
               [](float ratio) { return std::abs(ratio - 1.f) >= 1e-6; });
  variance_.assign(param.variance().begin(), param.variance().end());
  CHECK(variance_.size() <= 1 || variance_.size() == 4) << name << ": variance is one number or four";
  variance_.resize(4, variance_.empty() ? 0.1f : variance_[0]);
  CHECK_GT(*std::min_element(variance_.begin(), variance_.end()), 0) << name << ": variance must be positive";
  CHECK(!(param.has_img_size() && (param.has_img_h() || param.has_img_w())))
      << name << ": either img_size or img_h/img_w should be specified, not both";
  if (param.has_img_h() || param.has_img_w()) {
    CHECK(param.img_h() > 0 && param.img_w() > 0) << name << ": img_h and img_w must be positive";
  } else if (param.has_img_size()) {
    CHECK_GT(param.img_size(), 0) << name << ": img_size must be positive";
  } else {
    CHECK_EQ(bottom.size(), 2) << name << ": it needs the image as second bottom, or img_size";
  }
  CHECK(!(param.has_step() && (param.has_step_h() || param.has_step_w())))
      << name << ": either step or step_h/step_w should be specified, not both";
  if (param.has_step_h() || param.has_step_w()) {
    CHECK(param.step_h() > 0 && param.step_w() > 0) << name << ": step_h and step_w must be positive";
  } else if (param.has_step()) {
    CHECK_GT(param.step(), 0) << name << ": step must be positive";
  }
}

template <typename Dtype>
void PriorBoxLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const PriorBoxParameter& param = this->layer_param_.prior_box_param();
  for (const Blob<Dtype>* blob : bottom) {
    CHECK_EQ(blob->num_axes(), 4) << this->layer_param_.name() << ": a bottom must have 4 axes";
  }
  const int sizes = param.min_size_size() * (1 + ratios_.size()) + param.max_size_size();
  top[0]->Reshape({1, 2, bottom[0]->shape(2) * bottom[0]->shape(3) * sizes * 4});
}

template <typename Dtype>
void PriorBoxLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const PriorBoxParameter& param = this->layer_param_.prior_box_param();
  const int height = bottom[0]->shape(2), width = bottom[0]->shape(3);
  const bool by_sides = param.has_img_h() || param.has_img_w();
  const bool given = by_sides || param.has_img_size();
  const int image_h = by_sides ? param.img_h() : given ? param.img_size() : bottom[1]->shape(2);
  const int image_w = by_sides ? param.img_w() : given ? param.img_size() : bottom[1]->shape(3);
  float step_h = param.has_step() ? param.step() : param.step_h();
  float step_w = param.has_step() ? param.step() : param.step_w();
  if (step_h == 0) {
    step_h = float(image_h) / height;
    step_w = float(image_w) / width;
  }
  vector<std::pair<float, float> > sizes;  // width and height in pixels
  for (int i = 0; i < param.min_size_size(); ++i) {
    // SSD's own layer keeps whole pixels of both, and networks are trained with what it computes.
    const float smaller = int(param.min_size(i));
    sizes.emplace_back(smaller, smaller);
    if (param.max_size_size()) {
      const float between = std::sqrt(smaller * int(param.max_size(i)));
      sizes.emplace_back(between, between);
    }
    for (const float ratio : ratios_) {
      sizes.emplace_back(smaller * std::sqrt(ratio), smaller / std::sqrt(ratio));
    }
  }
  Dtype* to = top[0]->mutable_cpu_data();
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const float centre_x = (x + param.offset()) * step_w, centre_y = (y + param.offset()) * step_h;
      for (const auto& size : sizes) {
        *to++ = (centre_x - size.first / 2) / image_w;
        *to++ = (centre_y - size.second / 2) / image_h;
        *to++ = (centre_x + size.first / 2) / image_w;
        *to++ = (centre_y + size.second / 2) / image_h;
      }
    }
  }
  const int values = top[0]->shape(2);
  if (param.clip()) {
    for (Dtype* value = to - values; value < to; ++value) {
      *value = std::min(std::max(*value, Dtype(0)), Dtype(1));
    }
  }
  for (int i = 0; i < values; ++i) {
    to[i] = variance_[i % 4];
  }
}

INSTANTIATE_CLASS(PriorBoxLayer);
REGISTER_LAYER_CLASS(PriorBox);

}  // namespace caffe
