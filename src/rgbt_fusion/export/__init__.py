"""Trackers as files for other runtimes: torch.export and ONNX, in float32 and with linear layers in
int8."""
