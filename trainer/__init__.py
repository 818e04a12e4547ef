"""Training: from labelled radiographs to one model file, whose card states how well the model was measured."""
