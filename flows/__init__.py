"""What Prefect runs. Every process that runs a flow masks what it logs."""

from tasks_lib.masking import mask_logs

mask_logs()
