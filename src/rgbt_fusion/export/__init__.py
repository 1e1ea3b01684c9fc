"""Trackers as files for other runtimes: torch.export and ONNX, in float32 or with int8 layers."""
