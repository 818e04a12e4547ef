"""What runs in the lab: from labelled radiographs to one model file that says what it promises."""
