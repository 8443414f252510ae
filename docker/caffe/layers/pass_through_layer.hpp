#ifndef CAFFE_PASS_THROUGH_LAYER_HPP_
#define CAFFE_PASS_THROUGH_LAYER_HPP_

#include <vector>

#include "caffe/blob.hpp"
#include "caffe/layer.hpp"
#include "caffe/proto/caffe.pb.h"

namespace caffe {

// Space to depth with blocks of bh x bw: (N, C, H, W) -> (N, bh * bw * C, H / bh, W / bw),
// top(n, (dy * bw + dx) * C + c, y, x) = bottom(n, c, y * bh + dy, x * bw + dx).
template <typename Dtype>
class PassThroughLayer : public Layer<Dtype> {
 public:
  explicit PassThroughLayer(const LayerParameter& param) : Layer<Dtype>(param) {}
  void LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  const char* type() const override { return "PassThrough"; }
  int ExactNumBottomBlobs() const override { return 1; }
  int ExactNumTopBlobs() const override { return 1; }

 protected:
  void Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) override;
  void Backward_cpu(const vector<Blob<Dtype>*>& top, const vector<bool>& propagate_down,
                    const vector<Blob<Dtype>*>& bottom) override;

  int block_h_, block_w_;
};

}  // namespace caffe

#endif  // CAFFE_PASS_THROUGH_LAYER_HPP_
