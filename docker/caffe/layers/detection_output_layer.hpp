#ifndef CAFFE_DETECTION_OUTPUT_LAYER_HPP_
#define CAFFE_DETECTION_OUTPUT_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// SSD's last layer. bottoms: locations (N, P * L * 4), L being 1 with share_location, else the number of
// classes; confidences (N, P * classes); PriorBox's P priors (1, 2, P * 4). top: (1, 1, detections, 7),
// each the image's index, label, confidence, xmin, ymin, xmax, ymax. How many there are is known after
// the forward pass only: Reshape says 1. Without any, each image has one row of -1 behind its index.
// They are sorted by image, label and falling confidence; of equal ones the lower prior comes first,
// and where keep_top_k cuts, the lower label. save_output_param and visualize are ignored.
template <typename Dtype>
class DetectionOutputLayer : public Layer<Dtype> {
 public:
  explicit DetectionOutputLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  const char* type() const override { return "DetectionOutput"; }
  int ExactNumBottomBlobs() const override { return 3; }
  int ExactNumTopBlobs() const override { return 1; }

 protected:
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                    const vector<Blob<Dtype>*>& bottom) override {
    NOT_IMPLEMENTED;
  }

 private:
  struct Box {
    Dtype xmin, ymin, xmax, ymax;
  };
  Box Decode(const Dtype* prior, const Dtype* variance, const Dtype* location) const;
  // The priors that remain of one class, in falling order of confidence.
  vector<int> Suppress(const vector<Box>& boxes, const vector<Dtype>& confidences) const;

  int classes_, location_classes_, priors_;
};

}  // namespace caffe

#endif  // CAFFE_DETECTION_OUTPUT_LAYER_HPP_
