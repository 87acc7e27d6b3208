"""What a model sees of an image or a video, as pure arithmetic: frame choice, chunks, sizes, token counts, patches.

Input: sizes, counts and uint8 pixels. Output: indices, times, geometry and patch arrays, as the released
preprocessing computes them. Opens no file and must not know PyAV, Pillow or OpenCV: whoever decodes calls this.
"""
