"""Frames of two cameras: types, reading, crops, thermal scaling, drawing."""
