#include "caffe/layers/psroi_pooling_layer.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

namespace caffe {

template <typename Dtype>
void PSROIPoolingLayer<Dtype>::LayerSetUp(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const PSROIPoolingParameter& param = this->layer_param_.psroi_pooling_param();
  CHECK(param.output_dim() > 0 && param.group_size() > 0)
      << this->layer_param_.name() << ": output_dim and group_size must be at least 1";
}

template <typename Dtype>
void PSROIPoolingLayer<Dtype>::Reshape(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const PSROIPoolingParameter& param = this->layer_param_.psroi_pooling_param();
  const int group = param.group_size();
  CHECK_EQ(bottom[0]->num_axes(), 4) << this->layer_param_.name() << ": the first bottom must have 4 axes";
  CHECK_EQ(bottom[0]->shape(1), param.output_dim() * group * group)
      << this->layer_param_.name() << ": the map must have output_dim * group_size^2 channels";
  CHECK(bottom[1]->num_axes() >= 2 && bottom[1]->count(1) == 5)
      << this->layer_param_.name() << ": the second bottom must have 5 values for each region";
  top[0]->Reshape({bottom[1]->shape(0), int(param.output_dim()), group, group});
}

template <typename Dtype>
void PSROIPoolingLayer<Dtype>::Forward_cpu(const vector<Blob<Dtype>*>& bottom, const vector<Blob<Dtype>*>& top) {
  const Dtype scale = this->layer_param_.psroi_pooling_param().spatial_scale();
  const int height = bottom[0]->shape(2), width = bottom[0]->shape(3);
  const int channels = top[0]->shape(1), group = top[0]->shape(2);
  const Dtype* region = bottom[1]->cpu_data();
  Dtype* to = top[0]->mutable_cpu_data();
  for (int r = 0; r < bottom[1]->shape(0); ++r, region += 5) {
    const int image = region[0];
    CHECK(image >= 0 && image < bottom[0]->shape(0))
        << this->layer_param_.name() << ": a region lies on image " << image << ", which is not there";
    const Dtype x1 = std::round(region[1]) * scale, x2 = (std::round(region[3]) + 1) * scale;
    const Dtype y1 = std::round(region[2]) * scale, y2 = (std::round(region[4]) + 1) * scale;
    const Dtype bin_w = std::max(x2 - x1, Dtype(0.1f)) / group;
    const Dtype bin_h = std::max(y2 - y1, Dtype(0.1f)) / group;
    const auto on_map = [](Dtype at, int size) { return std::min(std::max(int(at), 0), size); };
    const Dtype* plane = bottom[0]->cpu_data() + image * bottom[0]->count(1);
    for (int c = 0; c < channels; ++c) {
      for (int i = 0; i < group; ++i) {
        const int top_y = on_map(std::floor(i * bin_h + y1), height);
        const int end_y = on_map(std::ceil((i + 1) * bin_h + y1), height);
        for (int j = 0; j < group; ++j, plane += height * width) {
          const int left_x = on_map(std::floor(j * bin_w + x1), width);
          const int end_x = on_map(std::ceil((j + 1) * bin_w + x1), width);
          Dtype sum = 0;
          for (int y = top_y; y < end_y; ++y) {
            for (int x = left_x; x < end_x; ++x) {
              sum += plane[y * width + x];
            }
          }
          *to++ = end_y <= top_y || end_x <= left_x ? 0 : sum / ((end_y - top_y) * (end_x - left_x));
        }
      }
    }
  }
}

INSTANTIATE_CLASS(PSROIPoolingLayer);
REGISTER_LAYER_CLASS(PSROIPooling);

}  // namespace caffe
