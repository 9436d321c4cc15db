"""Writers of foreign StyleGAN2 checkpoints, after their published layouts; nothing here uses the importers."""
