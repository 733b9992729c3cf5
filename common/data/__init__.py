"""Records, images and augmentation."""
