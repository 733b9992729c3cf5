"""Several devices: rank tables for HCCL (rank_table) and one process per device (launch). Standard
library only.
"""

import pkgutil

# CANN's Python packages hold an `hccl` as well: npu_bridge imports hccl.manage and hccl.split from
# it. Whichever of the two folders comes first on sys.path, the modules of both are found here.
__path__ = pkgutil.extend_path(__path__, __name__)
