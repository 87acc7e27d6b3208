"""Images and video to what a model sees: chosen frames, patches, timestamps; and what people look at beside it."""
