"""Side-by-side measurements that anybody can repeat."""
