"""The minimum for any tool over SSH: a process that connects and runs `true`."""

import sys

import paramiko

address, known_hosts, key = sys.argv[1:]
client = paramiko.SSHClient()
client.load_host_keys(known_hosts)
client.connect(address, username="root", key_filename=key, look_for_keys=False, allow_agent=False)
_, output, _ = client.exec_command("true")
sys.exit(output.channel.recv_exit_status())
