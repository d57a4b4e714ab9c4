from .benchmark_figure import show_benchmark as show_benchmark
from .colors import (
    COLORMAPS as COLORMAPS,
    Color as Color,
    class_colors as class_colors,
    colorize as colorize,
    palette as palette,
    to_uint8 as to_uint8,
)
from .figures import (
    NotebookFigure as NotebookFigure,
    show_box_scores as show_box_scores,
    show_heatmaps as show_heatmaps,
    show_masks as show_masks,
    show_matrix as show_matrix,
)
from .layout import grid as grid
from .legend import with_legend as with_legend
from .overlay import (
    overlay_heatmap as overlay_heatmap,
    overlay_labels as overlay_labels,
    overlay_masks as overlay_masks,
)
from .sheet import heatmap_sheet as heatmap_sheet
