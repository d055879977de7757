"""vd100k: build a vision-language data set, fine-tune a Qwen-VL on it, serve the result."""

__version__ = "0.1.0"
