"""One module for each way to run models; `xprim_nb.workers.contract.Backend` is what they promise."""
