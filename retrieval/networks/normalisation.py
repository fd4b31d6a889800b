"""How channels are normalised before a trunk."""

from __future__ import annotations

IMAGENET_MEAN = (0.485, 0.456, 0.406)


IMAGENET_STD = (0.229, 0.224, 0.225)


LITE_MEAN = (127 / 255,) * 3  # TensorFlow's efficientnet_lite_builder: (x - 127) / 128 on 0..255


LITE_STD = (128 / 255,) * 3
