"""MM1 as transformers classes: importing this package makes the Auto classes know the model type `triptych_mm1`."""

from transformers import AutoConfig, AutoModel, AutoModelForImageTextToText, AutoProcessor

from triptych.models.mm1.configuration import MM1Config
from triptych.models.mm1.modeling import MM1ForConditionalGeneration, MM1Model
from triptych.models.mm1.processing import MM1Processor

AutoConfig.register(MM1Config.model_type, MM1Config, exist_ok=True)
AutoModel.register(MM1Config, MM1Model, exist_ok=True)
AutoModelForImageTextToText.register(MM1Config, MM1ForConditionalGeneration, exist_ok=True)
AutoProcessor.register(MM1Config, MM1Processor, exist_ok=True)

__all__ = ["MM1Config", "MM1ForConditionalGeneration", "MM1Model", "MM1Processor"]
