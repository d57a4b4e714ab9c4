from .base import Encoder as Encoder, Guide as Guide
from .checkpoint import MODELS as MODELS
from .encoder import ClipEncoder as ClipEncoder, FgClip2Encoder as FgClip2Encoder
from .loading import check_checkpoint as check_checkpoint, family_of as family_of, load_encoder as load_encoder
from .networks.clip import RECIPES as RECIPES, Recipe as Recipe, Route as Route
from .networks.guided import GUIDED_RECIPES as GUIDED_RECIPES, GuidedRecipe as GuidedRecipe
