from .html import html_template as html_template
from .names import absolute_path as absolute_path, one_line as one_line, reason as reason
from .opening import decoding as decoding, open_image_file as open_image_file
from .output_errors import is_full_or_read_only as is_full_or_read_only, writing as writing
from .temporary import private_folder as private_folder, remove_abandoned as remove_abandoned
from .writers import (
    append_bytes as append_bytes,
    create_bytes as create_bytes,
    replacing as replacing,
    replacing_path as replacing_path,
    write_bytes as write_bytes,
    write_npz as write_npz,
    write_text as write_text,
)
