from .composition import is_held_out as is_held_out, scene as scene, truth_table as truth_table
from .vocabulary import Phrase as Phrase
