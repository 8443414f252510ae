#include "caffe/layers/roi_pooling_layer.hpp"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <vector>

namespace caffe {

template <typename Dtype>
void ROIPoolingLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ROIPoolingParameter& param = this->layer_param_.roi_pooling_param();
  CHECK(param.pooled_h() > 0 && param.pooled_w() > 0)
      << this->layer_param_.name() << ": roi_pooling_param needs pooled_h and pooled_w";
}

template <typename Dtype>
void ROIPoolingLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const ROIPoolingParameter& param = this->layer_param_.roi_pooling_param();
  CHECK_EQ(bottom[0]->num_axes(), 4) << this->layer_param_.name() << ": the first bottom must have 4 axes";
  CHECK(bottom[1]->num_axes() >= 2 && bottom[1]->count(1) == 5)
      << this->layer_param_.name() << ": the second bottom must have 5 values for each region";
  top[0]->Reshape({bottom[1]->shape(0), bottom[0]->shape(1), int(param.pooled_h()), int(param.pooled_w())});
}

template <typename Dtype>
void ROIPoolingLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype scale = this->layer_param_.roi_pooling_param().spatial_scale();
  const int channels = bottom[0]->shape(1), height = bottom[0]->shape(2), width = bottom[0]->shape(3);
  const int rows = top[0]->shape(2), columns = top[0]->shape(3);
  const Dtype* region = bottom[1]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int r = 0; r < bottom[1]->shape(0); ++r, region += 5) {
    const int image = region[0];
    CHECK(image >= 0 && image < bottom[0]->shape(0))
        << this->layer_param_.name() << ": a region lies on image " << image << ", which is not there";
    int corner[4];
    for (int i = 0; i < 4; ++i) {
      corner[i] = std::round(region[1 + i] * scale);
    }
    const Dtype bin_w = Dtype(std::max(corner[2] - corner[0] + 1, 1)) / columns;
    const Dtype bin_h = Dtype(std::max(corner[3] - corner[1] + 1, 1)) / rows;
    const auto on_map = [](int at, int size) { return std::min(std::max(at, 0), size); };
    const Dtype* plane = bottom[0]->cpu_data() + image * bottom[0]->count(1);
    for (int c = 0; c < channels; ++c, plane += height * width) {
      for (int i = 0; i < rows; ++i) {
        const int top_y = on_map(corner[1] + int(std::floor(i * bin_h)), height);
        const int end_y = on_map(corner[1] + int(std::ceil((i + 1) * bin_h)), height);
        for (int j = 0; j < columns; ++j, ++to) {
          const int left_x = on_map(corner[0] + int(std::floor(j * bin_w)), width);
          const int end_x = on_map(corner[0] + int(std::ceil((j + 1) * bin_w)), width);
          *to = end_y <= top_y || end_x <= left_x ? 0 : -FLT_MAX;
          for (int y = top_y; y < end_y; ++y) {
            for (int x = left_x; x < end_x; ++x) {
              if (plane[y * width + x] > *to) {
                *to = plane[y * width + x];
              }
            }
          }
        }
      }
    }
  }
}

INSTANTIATE_CLASS(ROIPoolingLayer);
REGISTER_LAYER_CLASS(ROIPooling);

}  // namespace caffe
