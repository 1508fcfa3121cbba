from .pyramid_grid import pyramid_grid, save_png

__all__ = ["pyramid_grid", "save_png"]
