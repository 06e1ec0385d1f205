"""The folder that production reads: one SavedModel a version, in TensorFlow Serving's layout, `<number>/`.

How TensorFlow Serving reads it (sources/storage_path/file_system_storage_path_source.cc, core/
aspired_versions_manager.cc, core/availability_preserving_policy.h and model_servers/main.cc of tensorflow/serving):
it lists the folder every second (`--file_system_poll_wait_seconds`), skips names that are no numbers, and by default
(policy `latest`) wants the highest number alone. It loads that version while the one before goes on answering, and
unloads the old one only when the new one is ready. A version that it has loaded is never read again. So

- a version is copied and synchronised under a name that is no number, and gets its number by one rename;
- a rollback is a new highest version with the content of an old one: every server with the default policy takes it
  up, and nothing that a server reads changes or goes away;
- a version leaves under a name that is no number, and is deleted then.

A server with the policy `specific` serves the versions that its configuration names, whatever happens here.
"""
