"""The store of a batch run: which images it has, in units, and one Parquet file of results per unit.

A store is a folder or an address that fsspec opens:

    fgseg-store.json            the version of the layout and the images per unit
    runs/KEY.json               the settings of a run, and KEY is their hash
    manifest/0000.parquet       images, a row group per unit; later parts hold new and changed images
    masks/run=KEY/0000-000012.parquet    the results of unit 12 of part 0
    attempts/  quarantine/      units that were begun and not finished; damaged files

Every file appears complete or not at all, so a run that is killed at any moment continues where it stopped. This
package needs the extra `fgseg[store]`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
