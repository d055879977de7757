"""Where images are besides in files of their own: object storage, the Hugging Face hub, tar and Parquet files.

An image is named by a path wherever it is: ``s3://bucket/photos/a.png``, ``/data/0001.tar/a.png`` (a member of a tar
file), ``/data/0001.parquet/image/17`` (a row of a Parquet file). ``files`` reads any of them; the other modules are
imported when the first such path is met.
"""
