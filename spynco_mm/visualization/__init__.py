from .pyramid_grid import pyramid_grid, save_png, to_rgb

__all__ = ["pyramid_grid", "save_png", "to_rgb"]
