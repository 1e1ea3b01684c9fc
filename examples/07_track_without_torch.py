"""Track with an exported .onnx file: numpy, OpenCV and ONNX Runtime, without torch."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
from onnxruntime import InferenceSession

file, rgb_frames, tir_frames, *numbers = sys.argv[1:]  # two videos or img%04d.png; x y w h
box = np.array(numbers, dtype=float)
session = InferenceSession(file, providers=["CPUExecutionProvider"])
texts = session.get_modelmeta().custom_metadata_map
known = json.loads(texts["rgbt_fusion.tracking"])
state = {name: np.float32(v) for name, v in json.loads(texts["rgbt_fusion.initial_state"]).items()}
hann = np.float32(np.hanning(known["grid"] + 2)[1:-1])
inputs = {"window": np.outer(hann, hann)} | state
videos = {"rgb": cv2.VideoCapture(rgb_frames), "tir": cv2.VideoCapture(tir_frames)}


def crop(kind):
    """Return the squares around the box by name, (1, 3, size, size), and their side in pixels."""
    side = int(np.ceil(np.sqrt(box[2] * box[3]) * known[f"{kind}_factor"]))
    left, top = (round(c) + side for c in box[:2] + box[2:] / 2 - side / 2)
    images = {}
    for name, video in videos.items():
        frame = video.retrieve()[1]
        padded = cv2.copyMakeBorder(frame, side, side, side, side, cv2.BORDER_CONSTANT)
        part = padded[top : top + side, left : left + side, ::-1]
        image = cv2.resize(np.float32(part), (known[f"{kind}_size"],) * 2) / 255
        normal = np.float32((image - known["mean"]) / known["std"])
        images[f"{kind}_{name}"] = normal.transpose(2, 0, 1)[None]
    return images, side


def run(session, inputs):
    """Return what a file finds, by name."""
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, inputs), strict=True))


first = True
while all(video.grab() for video in videos.values()):
    images, side = crop("template" if first else "search")
    if first and known["template"]:  # what makes the template's tokens, once
        beside = Path(file).with_name(known["template"]["file"])
        images = run(InferenceSession(beside, providers=session.get_providers()), images)
    inputs |= images
    if not first:
        found = run(session, inputs)
        inputs |= {name: found[f"next_{name}"] for name in state}
        x, y, width, height = found["box_cxcywh_unit"][0].astype(float) * side
        box[:2] += box[2:] / 2 - side / 2 + (x - width / 2, y - height / 2)
        box[2:] = width, height
    first = False
    print(*box.round(3))
