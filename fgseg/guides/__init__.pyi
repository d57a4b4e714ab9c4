from .loading import GUIDES as GUIDES, load_guide as load_guide, with_guide as with_guide
