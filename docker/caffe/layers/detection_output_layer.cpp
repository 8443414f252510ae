#include "caffe/layers/detection_output_layer.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <utility>
#include <vector>

namespace caffe {

template <typename Dtype>
void DetectionOutputLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const DetectionOutputParameter& param = this->layer_param_.detection_output_param();
  const string& name = this->layer_param_.name();
  classes_ = param.num_classes();
  CHECK_GT(classes_, 0) << name << ": detection_output_param needs num_classes";
  location_classes_ = param.share_location() ? 1 : classes_;
  CHECK_GE(param.nms_param().nms_threshold(), 0) << name << ": nms_threshold must not be negative";
  CHECK(param.nms_param().eta() > 0 && param.nms_param().eta() <= 1) << name << ": eta must be above 0 and at most 1";
}

template <typename Dtype>
void DetectionOutputLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const string& name = this->layer_param_.name();
  CHECK(bottom[0]->num_axes() >= 2 && bottom[1]->num_axes() >= 2 && bottom[2]->num_axes() >= 3)
      << name << ": locations and confidences need 2 axes at least, priors 3";
  CHECK_EQ(bottom[0]->shape(0), bottom[1]->shape(0)) << name << ": locations and confidences differ in images";
  CHECK(bottom[2]->shape(0) == 1 && bottom[2]->shape(1) == 2 && bottom[2]->count(2) % 4 == 0)
      << name << ": the priors must be what PriorBox makes, (1, 2, 4 * priors)";
  priors_ = bottom[2]->count(2) / 4;
  CHECK_EQ(priors_ * location_classes_ * 4, bottom[0]->count(1))
      << name << ": the number of priors does not match that of the locations";
  CHECK_EQ(priors_ * classes_, bottom[1]->count(1))
      << name << ": the number of priors does not match that of the confidences";
  top[0]->Reshape({1, 1, 1, 7});
}

template <typename Dtype>
typename DetectionOutputLayer<Dtype>::Box DetectionOutputLayer<Dtype>::Decode(const Dtype* prior,
                                                                              const Dtype* variance,
                                                                              const Dtype* location) const {
  const DetectionOutputParameter& param = this->layer_param_.detection_output_param();
  Dtype offset[4];
  for (int i = 0; i < 4; ++i) {
    offset[i] = param.variance_encoded_in_target() ? location[i] : variance[i] * location[i];
  }
  if (param.code_type() == PriorBoxParameter_CodeType_CORNER) {
    return {prior[0] + offset[0], prior[1] + offset[1], prior[2] + offset[2], prior[3] + offset[3]};
  }
  const Dtype width = prior[2] - prior[0], height = prior[3] - prior[1];
  CHECK(width > 0 && height > 0) << this->layer_param_.name() << ": a prior has no width or no height";
  if (param.code_type() == PriorBoxParameter_CodeType_CORNER_SIZE) {
    return {prior[0] + offset[0] * width, prior[1] + offset[1] * height, prior[2] + offset[2] * width,
            prior[3] + offset[3] * height};
  }
  const Dtype x = offset[0] * width + (prior[0] + prior[2]) / 2, half_width = std::exp(offset[2]) * width / 2;
  const Dtype y = offset[1] * height + (prior[1] + prior[3]) / 2, half_height = std::exp(offset[3]) * height / 2;
  return {x - half_width, y - half_height, x + half_width, y + half_height};
}

template <typename Dtype>
vector<int> DetectionOutputLayer<Dtype>::Suppress(const vector<Box>& boxes,
                                                  const vector<Dtype>& confidences) const {
  const DetectionOutputParameter& param = this->layer_param_.detection_output_param();
  const NonMaximumSuppressionParameter& nms = param.nms_param();
  const float least = param.has_confidence_threshold() ? param.confidence_threshold() : -FLT_MAX;
  vector<int> candidates;
  for (int i = 0; i < priors_; ++i) {
    if (confidences[i] > least) {
      candidates.push_back(i);
    }
  }
  std::stable_sort(candidates.begin(), candidates.end(),
                   [&](int i, int j) { return confidences[i] > confidences[j]; });
  if (nms.has_top_k() && nms.top_k() > -1 && nms.top_k() < int(candidates.size())) {
    candidates.resize(nms.top_k());
  }
  const auto area = [](const Box& box) {
    return box.xmax < box.xmin || box.ymax < box.ymin ? 0 : (box.xmax - box.xmin) * (box.ymax - box.ymin);
  };
  float threshold = nms.nms_threshold();
  vector<int> kept;
  for (const int candidate : candidates) {
    const Box& box = boxes[candidate];
    const bool covered = std::any_of(kept.begin(), kept.end(), [&](int before) {
      const Box& other = boxes[before];
      const Dtype width = std::min(box.xmax, other.xmax) - std::max(box.xmin, other.xmin);
      const Dtype height = std::min(box.ymax, other.ymax) - std::max(box.ymin, other.ymin);
      if (!(width > 0 && height > 0)) {
        return false;  // no overlap: never above the threshold
      }
      const Dtype both = width * height;
      return both / (area(box) + area(other) - both) > threshold;
    });
    if (!covered) {
      kept.push_back(candidate);
      if (nms.eta() < 1 && threshold > 0.5) {
        threshold *= nms.eta();
      }
    }
  }
  return kept;
}

template <typename Dtype>
void DetectionOutputLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const DetectionOutputParameter& param = this->layer_param_.detection_output_param();
  const int images = bottom[0]->shape(0);
  const Dtype* locations = bottom[0]->cpu_data();
  const Dtype* confidences = bottom[1]->cpu_data();
  const Dtype* priors = bottom[2]->cpu_data();
  const Dtype* variances = priors + priors_ * 4;
  vector<Dtype> rows;
  for (int n = 0; n < images; ++n) {
    vector<vector<Box> > boxes(location_classes_, vector<Box>(priors_));
    for (int c = 0; c < location_classes_; ++c) {
      for (int p = 0; p < priors_; ++p) {
        const Dtype* location = locations + ((n * priors_ + p) * location_classes_ + c) * 4;
        boxes[c][p] = Decode(priors + p * 4, variances + p * 4, location);
      }
    }
    const auto confidence_of = [&](int label, int prior) {
      return confidences[(n * priors_ + prior) * classes_ + label];
    };
    vector<std::pair<int, int> > found;  // label and prior
    for (int label = 0; label < classes_; ++label) {
      if (label == param.background_label_id()) {
        continue;
      }
      vector<Dtype> own(priors_);
      for (int p = 0; p < priors_; ++p) {
        own[p] = confidence_of(label, p);
      }
      for (const int prior : Suppress(boxes[param.share_location() ? 0 : label], own)) {
        found.emplace_back(label, prior);
      }
    }
    if (param.keep_top_k() > -1 && param.keep_top_k() < int(found.size())) {
      typedef std::pair<int, int> Found;
      std::stable_sort(found.begin(), found.end(), [&](const Found& a, const Found& b) {
        return confidence_of(a.first, a.second) > confidence_of(b.first, b.second);
      });
      found.resize(param.keep_top_k());
      std::stable_sort(found.begin(), found.end(), [](const Found& a, const Found& b) { return a.first < b.first; });
    }
    for (const auto& one : found) {
      const Box& box = boxes[param.share_location() ? 0 : one.first][one.second];
      const Dtype row[] = {Dtype(n), Dtype(one.first), confidence_of(one.first, one.second),
                           box.xmin, box.ymin,         box.xmax,
                           box.ymax};
      rows.insert(rows.end(), row, row + 7);
    }
  }
  if (rows.empty()) {
    rows.assign(images * 7, -1);
    for (int n = 0; n < images; ++n) {
      rows[n * 7] = n;
    }
  }
  top[0]->Reshape({1, 1, int(rows.size()) / 7, 7});
  std::copy(rows.begin(), rows.end(), top[0]->mutable_cpu_data());
}

INSTANTIATE_CLASS(DetectionOutputLayer);
REGISTER_LAYER_CLASS(DetectionOutput);

}  // namespace caffe
