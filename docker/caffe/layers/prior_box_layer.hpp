#ifndef CAFFE_PRIOR_BOX_LAYER_HPP_
#define CAFFE_PRIOR_BOX_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// SSD's anchors of a map (N, C, H, W), for an image with the size of the second bottom (N', C', H', W')
// unless the parameters give one. top is (1, 2, H * W * priors * 4): xmin, ymin, xmax, ymax of each in
// units of the image's size, then their variances. At each position, for each min_size: the square of
// that size, the square of size sqrt(min_size * max_size), one box for each aspect ratio but 1.
template <typename Dtype>
class PriorBoxLayer : public Layer<Dtype> {
 public:
  explicit PriorBoxLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  const char* type() const override { return "PriorBox"; }
  int MinBottomBlobs() const override { return 1; }
  int MaxBottomBlobs() const override { return 2; }
  int ExactNumTopBlobs() const override { return 1; }

 protected:
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                    const vector<Blob<Dtype>*>& bottom) override {
    NOT_IMPLEMENTED;
  }

  vector<float> ratios_;  // without 1
  vector<float> variance_;  // four
};

}  // namespace caffe

#endif  // CAFFE_PRIOR_BOX_LAYER_HPP_
