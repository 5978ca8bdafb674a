r"""
---
title: The Feedback Transformer
summary: A Transformer in which every layer reads what all layers computed at earlier steps.
---

# The Feedback Transformer

All modules in reading order, which is also the order of their imports: each builds on those before
it. The files at the top of this folder are the chapter; the code that supports it is in subfolders.

## The recurrence

1. `config`: what a model is made of
2. `attention`: one query against the memory, relative positions
3. `layers`: the layer, and the mix of all layers that becomes memory
4. `memory`: the state that one call hands to the next
5. `reference`: the recurrence in its plainest form: the specification

## Exact and fast

6. `append`: keys and values computed once, appended without copies
7. `weights`: the parameters, arranged for a sweep through time
8. `tape`: what the forward sweep leaves for the backward sweep
9. `border`: whether a model and its tensors are what the sweeps take them for
10. `forward`: a sweep through time that fills the tape
11. `backward`: the sweep back, derived by hand, and all weight gradients at once
12. `sequence`: the whole sequence as one function
13. `compiled`: the C++ loop, compiled on first use
14. `native`: the two sweeps in C++
15. `graphs`: on a GPU, a whole step as one CUDA graph

## The model

16. `model`: the recurrence as a module, and the choice of implementation
17. `transformer`: the parallel Transformer, for comparison

## Data

18. `tiny_shakespeare`: the data set: cache, download, or rebuilt offline byte for byte
19. `enwik8`: a hundred million bytes of Wikipedia
20. `tokenizer`: characters, bytes, or pieces of words
21. `text`: from a text to batches
22. `tasks`: parity and a random walk: small worlds whose state must be tracked

## Language models

23. `rotary`: a parallel Transformer with fused attention, the rival
24. `decode`: one step per token; the prefix is never computed again
25. `generate`: how to choose a token
26. `pretrained`: a folder with a model, here or on the Hugging Face hub
27. `language_model`: tokens in, logits out, and the loop that writes

## Training

28. `train_config`: what a run is made of
29. `schedule`: learning rate, short to long, the optimiser
30. `distributed`: several processes, one run
31. `sharded`: a model divided among them
32. `evaluate`: the loss, and its mean over a whole text
33. `checkpoint`: all that a run needs to go on, checked to the last bit
34. `runs`: the folder of a training run
35. `plot`: the loss, drawn
36. `warm_start`: begin with the weights of a parallel Transformer
37. `trainer`: one step, and all that it depends on
38. `train`: one visible training loop

## Measuring

39. `contestants`: the models compared: ours, the strongest Transformers, other people's code
40. `report`: tables and three pictures
41. `measure`: time, memory and decoding, side by side on this machine

## Experiments

42. `task`: a stream of sequences with labels
43. `groups`: word problems: the product of all elements so far
44. `languages`: parity and arithmetic, with brackets and without
45. `toys`: copy, reverse, count, walk, recall
46. `programs`: the paper's algorithmic task
47. `rivals`: the networks that are given the same tasks
48. `course`: one loop that teaches any of them any task
49. `released`: the authors' settings for their programs
50. `experiment`: contestants, and the record of how they did
51. `slips`: the first mistake in a long product, and where it leads
52. `parallel_in_time`: the recurrence as an equation for all steps at once
53. `text_ablations`: the default language model with one thing changed
54. `catalog`: the experiments by name

## From the command line

55. `commands`: what each command does, and its options
56. `__main__`: the command line

## Support

57. `checks`: errors that say what to do
58. `files`: write a file completely or not at all, one process at a time
59. `interrupt`: a signal that lets the step finish
60. `trust`: which folders nobody else can write to, and text that a terminal can show
61. `figures`: one colour for feedback in every figure
"""

from .config import ModelConfig
from .lm.language_model import FeedbackLM, RotaryLM, TransformerLM
from .memory import Memory
from .model import FeedbackTransformer
from .training.train_config import TrainConfig

__version__ = "0.1.0"
__all__ = [
    "FeedbackLM",
    "FeedbackTransformer",
    "Memory",
    "ModelConfig",
    "RotaryLM",
    "TrainConfig",
    "TransformerLM",
]
