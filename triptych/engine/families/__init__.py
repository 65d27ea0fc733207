"""Model families: what differs between them, one file each; everything else in the engine is the same for all."""

from triptych.engine.families.base import Family, ImageFeatures
from triptych.engine.families.registry import family_of
from triptych.engine.families.vision import as_encoder_outputs, backbone_of, encode_images

__all__ = ["Family", "ImageFeatures", "as_encoder_outputs", "backbone_of", "encode_images", "family_of"]
