"""One data set a chart, and a name for each size of a network: curves of two are never drawn as if they were one."""

from __future__ import annotations

import pandas as pd

from gendyn_lite.errors import UserError
from gendyn_lite.results.tables import with_sizes


def one_data_set(table: pd.DataFrame, *, column: str = "network") -> pd.DataFrame:
    """The table, with the size in the network's name where there are several; `n` wherever the table has several.

    Args:
        table: A tidy table of `gendyn_lite.results`.
        column: The column that names the networks.

    Raises:
        UserError: The runs are of several data sets.

    >>> runs = pd.DataFrame({"data": ["MNIST"] * 2, "network": ["mlp", "mlp"], "n_train": [1000, 60000]})
    >>> one_data_set(runs)["network"].tolist()
    ['mlp, n = 1,000', 'mlp, n = 60,000']
    """
    names = list(table["data"].unique())
    if len(names) > 1:
        raise UserError(
            f"the table has runs on {' and '.join(names)}: choose one, table[table['data'] == {names[0]!r}]"
        )
    n = table["n_train"].map(", n = {:,}".format) if table["n_train"].nunique() > 1 else ""
    return table.assign(**{column: table[column] + n + with_sizes(table, of=column)["rest"]})
