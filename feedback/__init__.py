r"""
---
title: The Feedback Transformer
summary: A Transformer in which every layer reads what all layers thought before.
---

# The Feedback Transformer

The modules in reading order. Each is a chapter: the idea, the mathematics, the code.

1. `config`: what a model and a run are made of
2. `attention`: one query against the memory
3. `layers`: the layer, and the mix that becomes memory
4. `memory`: the state that one call hands to the next
5. `reference`: the recurrence, in its plainest form
6. `stack`: the same, without copying at each step
7. `weights`, `tape`, `forward`, `backward`, `sequence`: the whole sequence as one function
8. `native`: its sweeps in C++, and `graphs`: one CUDA graph a step
9. `model`: the parameters, and the language model
10. `transformer`: the parallel Transformer, for comparison and as a warm start
11. `decode`: one step a token; `generate`: which token
12. `pretrained` and `files`: saving and loading
13. `data` and `tiny_shakespeare`: text; `tasks`: small worlds whose state has to be followed
14. `schedule`, `evaluate`, `interrupt`, `train`: the loop; `runs`: its folder, `plot`: its picture
15. `contestants`, `benchmark`, `report`: how fast, next to others
16. `__main__`: the command line
"""

from .config import ModelConfig, TrainConfig
from .memory import Memory
from .model import FeedbackLM, FeedbackTransformer
from .transformer import TransformerLM

__version__ = "0.1.0"
__all__ = [
    "FeedbackLM",
    "FeedbackTransformer",
    "Memory",
    "ModelConfig",
    "TrainConfig",
    "TransformerLM",
]
