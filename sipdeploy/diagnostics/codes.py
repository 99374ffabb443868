"""The manual of every code, as `lint --explain` shows it.

A manual says what the code means, shows an example or a situation, and ends with a fix that can
be typed. Its first line is the entry in the list of all codes. The manual of a lint rule is the
docstring of the rule.
"""

import inspect
from collections.abc import Mapping

_MANUALS: Mapping[str, str] = {
    "SD001": """The argument names something that does not exist.
        Example: `sipdeploy lint --explain SD3055`
        Fix: use the name that the message suggests; `sipdeploy lint --explain` lists all
        codes.""",
    "SD002": """The options of the command contradict each other, or it needs a terminal.
        Example: `sipdeploy apply sip1 < /dev/null` cannot ask for confirmation.
        Fix: for unattended runs add `--yes`; otherwise change the option that the message names
        (`sipdeploy COMMAND --help` describes each).""",
    "SD101": """The file is not YAML. The parser stops at the first such place.
        Example: `name: Alice: sales` (a value that contains `: ` needs quotes)
        Fix: `name: "Alice: sales"`. If the line looks right, check its indentation and the
        quotation marks and brackets in the lines above it.""",
    "SD102": """The file is not UTF-8 text, or contains a control character.
        Example: an editor saved the file as Latin-1, so `ü` is the byte 0xfc.
        Fix: `iconv -f LATIN1 -t UTF-8 inventory.yaml > new.yaml`, then replace the file. Delete a
        control character, or write it as an escape in double quotes, such as "\\x07".""",
    "SD103": """A line is indented with a tab. YAML allows only spaces for indentation.
        Example: a line that starts with a tab below `users:`
        Fix: `expand -t 2 inventory.yaml > new.yaml`, then replace the file.""",
    "SD104": """A mapping contains the same key twice.
        YAML parsers differ in which of the two they keep, so sipdeploy rejects both.
        Example: `users: {1001: {name: Alice}, 1001: {name: Bob}}`
        Fix: delete one of them, or give it another number.""",
    "SD105": """Anchors (`&name`), aliases (`*name`) and merge keys (`<<`) are not supported.
        Commands that edit the inventory could not change one user without changing another.
        Example: `users: {1001: &default {voicemail: true}, 1002: *default}`
        Fix: write the value out at each place. Quote a value that starts with `&` or `*`.""",
    "SD106": """YAML tags (`!name`) have no meaning in an inventory.
        Example: `password: !vault abc`
        Fix: delete the tag. If `!` belongs to the value, quote it: `password: "!vault abc"`.""",
    "SD107": """The file contains more than one YAML document.
        Example: a line `---` between `domain: sip.example.com` and `hosts:`
        Fix: delete the line `---`; keep a second site in a file of its own and select it with
        `sipdeploy -i FILE`.""",
    "SD108": """The file is empty or contains only comments.
        Example: `touch inventory.yaml && sipdeploy lint`
        Fix: delete the file and run `sipdeploy init`, which writes a complete inventory.""",
    "SD109": """The file, or a key in it, has a structure that no inventory can have.
        The top level is a mapping, each key is a word or a number, lists and mappings nest at most
        32 deep, and the file has at most 3,000,000 keys and values.
        Example: `- domain: sip.example.com` (a list), or `name: {{ name }}` without quotes
        Fix: start the file with `domain: sip.example.com`; quote braces: `name: "{{ name }}"`.""",
    "SD110": """A local file cannot be read or written.
        Example: `sipdeploy lint` in a directory without an inventory.yaml
        Fix: `ls -l FILE` shows owner and mode. `sipdeploy init` writes an inventory, and
        `sipdeploy -i FILE` selects another one. A symbolic link needs `lint --trusted`.""",
    "SD201": """The inventory has no such key.
        Example: `hosts: {sip1: {adress: 203.0.113.10}}`
        Fix: `hosts: {sip1: {address: 203.0.113.10}}`. inventory.example.yaml and
        `sipdeploy lint --schema` list all keys.""",
    "SD202": """A required key is missing.
        Example: `hosts: {sip1: {user: root}}` (`address` is missing)
        Fix: add the key, as in `hosts: {sip1: {address: 203.0.113.10, user: root}}`.""",
    "SD203": """The value has the wrong type: text, a list or a mapping is required.
        Example: `origins: https://phone.example.com` (`origins` is a list)
        Fix: `origins: [https://phone.example.com]`. A mapping is written as `{key: value}`.""",
    "SD204": """The key has no value.
        Example: `email:` with nothing after the colon
        Fix: write a value (`email: ops@example.com`), or delete the key to get its default.""",
    "SD205": """The value is not a whole number, or is out of range.
        Example: `limits: {connections: 100}` (256 is the minimum)
        Fix: `limits: {connections: 256}`. The message shows the range.""",
    "SD206": """The value is neither `true` nor `false`.
        Example: `users: {1001: {voicemail: maybe}}`
        Fix: `users: {1001: {voicemail: true}}`; `yes`, `no`, `on` and `off` work too.""",
    "SD207": """The value is not one of the permitted words.
        Example: `firewall: iptables`
        Fix: `firewall: nftables`. The message lists the permitted words.""",
    "SD208": """Users have 2 to 15 digits; services have 1 to 15 digits and stars.
        Example: `users: {alice: {name: Alice}}`
        Fix: `users: {1001: {name: Alice}}`.""",
    "SD209": """`domain` is not a full DNS name.
        The certificate, the SIP realm and the WebSocket URL all contain it.
        Example: `domain: 203.0.113.10`, or `domain: sip`
        Fix: `domain: sip.example.com`. Write an internationalised name as `xn--...`.""",
    "SD210": """`email` is not an e-mail address. It becomes the contact of the ACME account.
        Example: `email: ops`
        Fix: `email: ops@example.com`.""",
    "SD211": """The address of a host is not an IP address or a host name.
        Example: `hosts: {sip1: {address: "203.0.113.10:22"}}`
        Fix: `hosts: {sip1: {address: 203.0.113.10, port: 22}}`. `local` means this machine; a
        media address is always numeric.""",
    "SD212": """Media cannot be sent to this address.
        Browsers need a numeric address that they can reach: ICE candidates contain no names.
        Example: `hosts: {sip1: {address: sip1.example.com}}` without a `public_address`
        Fix: `hosts: {sip1: {address: sip1.example.com, public_address: 203.0.113.10}}`. A
        `private_address` has the same IP version as the public one.""",
    "SD213": """Two services use the same port. Ports 22 (SSH) and 80 (ACME) are reserved.
        Example: `ports: {wss: 5060}` (5060 is the default of `ports.asterisk`)
        Fix: `ports: {wss: 8443}`, or any other free port.""",
    "SD214": """A port lies inside `ports.rtp`, where Asterisk may use any port for a call.
        Example: `ports: {kamailio: 10000, rtp: 10000-20000}`
        Fix: `ports: {kamailio: 5062, rtp: 10000-20000}`.""",
    "SD215": """The value is not a range of ports, `FIRST-LAST`, between 1024 and 65535.
        Example: `ports: {rtp: 20000-10000}`
        Fix: `ports: {rtp: 10000-20000}`.""",
    "SD216": """The same number is used for a user and for a service.
        Example: `users: {6000: {}}` and `services: {6000: {kind: echo}}`
        Fix: give one of them another number, such as `services: {6010: {kind: echo}}`.""",
    "SD217": """The provider of the certificate needs a key that is missing.
        Example: `tls: {provider: files, certificate: server.crt}`
        Fix: add the missing key: `private_key: server.key` here, `dns_plugin: rfc2136` with
        `challenge: dns-01`, `server: https://...` with `ca_bundle`.""",
    "SD218": """The key has no effect with this provider or challenge.
        Example: `tls: {provider: letsencrypt, certificate: server.crt}`
        Fix: delete the key, or select the provider that uses it: `provider: files`.""",
    "SD219": """The value is not a web origin: scheme, host and port, without a path.
        Example: `origins: [https://phone.example.com/app]`
        Fix: `origins: [https://phone.example.com]`.""",
    "SD220": """The text contains a control character or a line break, or is too long.
        Example: a name of more than 80 characters
        Fix: delete the character, or shorten the name to 80 characters.""",
    "SD221": """A password has exactly one source: `env`, `file` or `command`.
        Example: `users: {1001: {password: {env: SIP_1001, file: alice.txt}}}`
        Fix: `users: {1001: {password: {env: SIP_1001}}}`.""",
    "SD222": """sipdeploy does not support this version of Kamailio or Asterisk.
        It writes configuration for Kamailio 5.4 to 6.1 and Asterisk 16 to 22.
        Example: `versions: {asterisk: 13}`
        Fix: `versions: {asterisk: 22}`. `install.asterisk.version` is a full release: 22.11.0.""",
    "SD223": """The name of a host or of a login contains a character that is not permitted.
        These names become parts of paths and commands.
        Example: `hosts: {"sip 1": {address: 203.0.113.10}}`
        Fix: `hosts: {sip-1: {address: 203.0.113.10}}`. Logins start with a letter or `_`.""",
    "SD224": """Two entries of `hosts` are the same machine; each apply would undo the other.
        Example: `hosts: {a: {address: 203.0.113.10}, b: {address: 203.0.113.10}}`
        Fix: delete one entry, or correct its address.""",
    "SD225": """`tls.server` is not the https URL of an ACME directory.
        Example: `tls: {server: acme.example.com}`
        Fix: `tls: {server: "https://acme.example.com/directory"}`.""",
    "SD226": """`tls.webroot` is not an absolute path, or `tls.dns_plugin` is not a plugin name.
        Example: `tls: {webroot: www}`, or `tls: {dns_plugin: dns_rfc2136}`
        Fix: `tls: {webroot: /var/www/html}`, or
        `tls: {challenge: dns-01, dns_plugin: rfc2136}`.""",
    "SD227": """A value below `install` is not a URL, a SHA-256 or a key fingerprint.
        Example: `install: {asterisk: {sha256: 3bd5ee04}}` (64 hexadecimal digits are required)
        Fix: write the output of `sha256sum FILE`; for `fingerprint` that of
        `gpg --show-keys FILE`; for `url` an http or https URL.""",
    "SD230": """A user has no password, neither in the inventory nor in the secrets file.
        `apply` never generates passwords: if the secrets file were lost, it would lock out every
        phone.
        Example: `users: {1003: {name: Carol}}` was added by hand.
        Fix: `sipdeploy init` generates the missing passwords; a `secrets.command` must print them.
        A clone of the repository has no secrets file, because git ignores it: copy the file from
        whoever made the site. `sipdeploy init --new-passwords` replaces all passwords, which locks
        out every phone until somebody enters the new one there.""",
    "SD231": """A source of passwords failed.
        A variable is not set, a file cannot be read, a command fails or takes longer than 10
        seconds, or `secrets.store` lost what it was given.
        Example: `password: {env: SIP_1001}` and the variable is not exported
        Fix: `export SIP_1001=...`; run the command by hand in the inventory's directory.""",
    "SD232": """The secrets file contains something other than a mapping from numbers to passwords.
        Example: `1001: fmK4tXw9Rd2zHq7p` at the top level, without `users:` above it
        Fix: write the line `users:`, and below it, indented, lines such as
        `"1001": "fmK4tXw9Rd2zHq7p"`.""",
    "SD233": """sipdeploy does not fetch this password, because the inventory is not trusted.
        An inventory can come from a stranger, so `lint` and `render` run no command that it names
        and read no variable and no file outside its directory.
        Example: `sipdeploy render` with `password: {command: "pass show sip/1001"}`
        Fix: if the inventory is your own, `sipdeploy render --trusted`.""",
    "SD301": """A comment `# sipdeploy: ignore[CODE]` suppresses nothing on its line.
        It suppresses warnings and notes with that code on that line; errors cannot be ignored.
        Example: `tls: {provider: letsencrypt} # sipdeploy: ignore[SD308]`
        Fix: delete the comment, or name the code: `# sipdeploy: ignore[SD305]`.""",
    "SD304": """Other accounts on this machine can read the secrets file.
        It contains every password in clear text.
        Example: `-rw-r--r-- secrets.yaml` (mode 0644)
        Fix: `chmod 600 secrets.yaml`.""",
    "SD401": """The host's own Kamailio or Asterisk rejects the new configuration.
        Before an apply changes anything, the daemons of the host parse the candidate and start on
        it in a network namespace of their own. The previous configuration stays in use.
        Situation: /etc/kamailio/local.cfg on the host contains a line that Kamailio rejects.
        Fix: `sipdeploy render --host sip1` writes the same files to `rendered/`; correct what the
        message quotes, then `sipdeploy apply sip1`.""",
    "SD420": """`render` cannot write here: it replaces only directories that it made itself.
        Example: `sipdeploy render -o /etc`
        Fix: `sipdeploy render -o rendered`, or any other new or empty directory.""",
    "SD501": """The inventory has no host of this name, or the host cannot be reached over SSH.
        Situation: the address does not resolve, nothing answers, or the port of SSH is closed.
        Fix: correct `hosts.NAME.address` or `hosts.NAME.port`; the message shows an `ssh` command
        that fails in the same way.""",
    "SD502": """The SSH key of the host is not in any known_hosts file.
        sipdeploy never accepts an unknown key by itself.
        Situation: the first connection to a new host.
        Fix: run the `ssh` command of the message, compare the fingerprint with that on the host's
        console (`ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub`), and accept it if they
        agree.""",
    "SD503": """The SSH key of the host differs from the known one, or was revoked.
        Situation: the host was reinstalled, or another machine answers at its address.
        Fix: find out which. If the host was reinstalled, `ssh-keygen -R NAME -f FILE` with the
        values of the message removes the old key.""",
    "SD504": """The host accepts none of the SSH keys.
        sipdeploy tries `identity_file`, the keys and certificates of ~/.ssh/config, and those of
        the SSH agent. It never asks for a password.
        Situation: a new host accepts only the password of root.
        Fix: `ssh-copy-id root@203.0.113.10`, or set `hosts.NAME.identity_file`.""",
    "SD505": """The login is not root, and sudo refuses it.
        The message shows what sudo said.
        Example: `hosts: {sip1: {address: 203.0.113.10, user: admin}}`
        Fix: on the host as root,
        `echo 'admin ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/sipdeploy`, or set `user: root`.""",
    "SD506": """The connection was lost, or a command on the host exceeded its time limit.
        The host completes or undoes the unfinished apply by itself.
        Situation: the network failed during `sipdeploy apply sip1`.
        Fix: `sipdeploy plan sip1` shows the state of the host; then apply again.""",
    "SD507": """Another run holds the lock of the host, or changed the host first.
        The lock names its owner, the purpose and the start time. sipdeploy takes over the lock of
        a process of this machine that no longer exists.
        Situation: two people run `sipdeploy apply sip1` at the same time.
        Fix: `sipdeploy apply sip1 --lock-wait 300`. If the other run is dead, use `--break-lock`
        instead.""",
    "SD508": """~/.ssh/config contains something for this host that sipdeploy cannot use.
        Example: `ProxyJump sip1` in the section `Host sip1` (a loop), or `KnownHostsCommand`
        Fix: change the line that the message names; `ssh -G sip1` prints the effective
        settings.""",
    "SD509": """The host did not run a script of sipdeploy, or its answer is not complete.
        Situation: a cloud image answers root with `Please login as the user "ubuntu"`, or the
        login has no POSIX shell.
        Fix: set `hosts.NAME.user` to the login that the host names. Otherwise, on the host,
        `getent passwd LOGIN` shows the shell, and `chsh -s /bin/bash LOGIN` sets it.""",
    "SD510": """The operating system of the host is not supported, or runs without systemd.
        Situation: the host runs Debian 10, or is a container without an init system.
        Fix: use a host with Debian 11, Ubuntu 22.04 or a later release, booted by systemd.""",
    "SD511": """The host has, or can install, no supported version of Kamailio or Asterisk.
        Example: `install: {asterisk: package}` on Debian 12 or 13, which have no such package
        Fix: delete `install`, and sipdeploy chooses a source that works; or write
        `install: {asterisk: source, kamailio: repository}`.""",
    "SD512": """The host has too little free disk space for the packages, the build or the files.
        Situation: less than 1 GiB is free in /var and Kamailio is not installed yet.
        Fix: on the host, `apt-get clean`; `du -xh /var | sort -h | tail` shows what uses the
        space.""",
    "SD513": """The host has too little memory for the number of connections.
        Kamailio reserves shared memory for every connection when it starts.
        Situation: 10,000 users on a host with 1 GiB of memory.
        Fix: `limits: {connections: 2048}` (the message says how many fit), or use a host with
        more memory.""",
    "SD514": """Another program listens on a port that the site uses.
        Situation: a web server on the host uses port 8443.
        Fix: stop the program, or set the port that the message names, such as
        `ports: {wss: 8444}`.""",
    "SD515": """The clock of the host differs from the clock of this machine.
        More than 60 seconds are a warning, more than an hour is an error: certificates would not
        be valid yet, or no longer.
        Situation: the host has no time synchronisation.
        Fix: on the host, `timedatectl set-ntp true`.""",
    "SD516": """No network interface of the host has the address that the services bind to.
        Situation: a cloud maps 203.0.113.10 to 10.0.0.5 on the host (1:1 NAT).
        Fix: `hosts: {sip1: {address: 203.0.113.10, private_address: 10.0.0.5}}`.""",
    "SD517": """The domain does not resolve to the host, so phones will not find it.
        Situation: the DNS record of sip.example.com still contains the previous server.
        Fix: set its A record to the host's public address. `dig +short sip.example.com` prints
        the current one.""",
    "SD518": """A rule of another firewall on the host keeps phones, or their media, out.
        The accept rules of sipdeploy's table cannot overrule it. sipdeploy reads the rules of
        iptables, nftables, ufw and firewalld. It does not see the firewall of a provider.
        Situation: the rules of an image end with `iptables -A INPUT -j REJECT`.
        Fix: run the command of the message, such as
        `iptables -I INPUT 5 -p tcp --dport 8443 -j ACCEPT`. As a note: the message names a rule
        that sipdeploy does not understand; check it yourself.""",
    "SD519": """This version of Kamailio fails with OpenSSL 3 (kamailio#3791).
        Its processes share memory that OpenSSL 3 reserves for threads; 5.7.5 corrected that. 5.7.0
        to 5.7.4 refuse the first TLS connection after each start too, so they are an error.
        Example: `install: {kamailio: package}` on Debian 12, whose archive has Kamailio 5.6
        Fix: `install: {kamailio: repository}` installs a newer one.""",
    "SD520": """apt cannot fetch or install the packages.
        The daemons were not started. The next apply continues from here. It is a warning if only
        the update of the lists failed and they have all packages that the site needs.
        Situation: a mirror in /etc/apt/sources.list does not answer, or another program uses apt
        for longer than the five minutes that sipdeploy waits.
        Fix: on the host, `apt-get update` until it succeeds; then `sipdeploy apply`.""",
    "SD521": """The new files cannot be written to the staging directory of the host.
        The configuration in use is unchanged.
        Situation: the file system of /var is full or mounted read-only.
        Fix: on the host, `df -h /var` and `mount | grep /var`; then `sipdeploy apply`.""",
    "SD522": """The new files cannot replace the current ones; the previous files were restored.
        Situation: /etc is mounted read-only, or a file has the immutable attribute.
        Fix: on the host, `mount | grep /etc`, and `lsattr FILE` with the file of the message; then
        `sipdeploy apply`.""",
    "SD523": """A service did not reload or start; sipdeploy restored the previous release.
        Situation: another program took the port between the checks and the start.
        Fix: on the host, `journalctl -b -u kamailio -u asterisk`; then `sipdeploy apply`.""",
    "SD524": """The new release failed its checks; sipdeploy restored the previous one.
        The checks: both units run, every port listens, the certificate is served, SIP is answered,
        and phones that were registered return.
        Situation: a unit starts and exits again after a few seconds.
        Fix: on the host, `journalctl -b -u kamailio -u asterisk`; then `sipdeploy apply`.""",
    "SD525": """A step could not be completed or undone; the host may be between two releases.
        The message says what is left to do.
        Situation: the connection was lost while the previous release was restored.
        Fix: `sipdeploy plan sip1` shows the state and `sipdeploy apply sip1` repairs it; on the
        host, `journalctl -b -u kamailio -u asterisk` shows why a service does not start.""",
    "SD526": """A managed file was edited on the host since the last apply.
        The apply stops, so that the edit is not lost. A change of only users leaves an edit in
        another file alone, with a warning.
        Situation: somebody changed /etc/kamailio/kamailio.cfg on the host.
        Fix: `sipdeploy plan sip1` shows the edit. Move it to the local file that the message
        names, or discard it with `sipdeploy apply sip1 --overwrite`.""",
    "SD527": """An apply was interrupted; the previous release was, or will be, restored.
        Situation: the deploying machine was switched off during an apply.
        Fix: `sipdeploy apply sip1` applies the inventory again.""",
    "SD528": """The apply was confirmed too late: the host had already rolled back by itself.
        Situation: the connection was lost for longer than `--confirm-timeout` (120 seconds).
        Fix: `sipdeploy apply sip1 --confirm-timeout 300`.""",
    "SD529": """The saved plan cannot be read, or no longer fits the host or the inventory.
        A saved plan is applied exactly as it was shown, or not at all.
        Example: `sipdeploy apply plan.json` after an edit of inventory.yaml
        Fix: `sipdeploy plan -o plan.json`, review it, then `sipdeploy apply plan.json`.""",
    "SD530": """The host does not keep this release. It keeps the five newest.
        Example: `sipdeploy rollback sip1 1` after ten applies
        Fix: `sipdeploy history sip1` lists the releases; `sipdeploy rollback sip1 NUMBER`.""",
    "SD531": """The host sent far more output than any answer has, and sipdeploy stopped reading.
        The limit is 8 MiB, or 128 MiB where the answer grows with the site. An unfinished apply is
        undone.
        Situation: a program on the host is broken, or somebody has taken over the host.
        Fix: log in with `ssh` and run the command of the message by hand.""",
    "SD532": """The release cannot get the users and passwords that the host has now.
        A rollback keeps them, so that no removed user and no old password is valid again. It
        cannot if the release is for another domain, or stores users in another form.
        Situation: `sipdeploy rollback sip1 3`, and release 3 is for the previous domain
        Fix: `sipdeploy rollback sip1 3 --with-users`, which names who comes back and asks.""",
    "SD533": """Ctrl-C or SIGTERM ended a step. The message says what became of the host.
        A script that was running on a remote host ends by itself; the next apply waits for it.
        Situation: Ctrl-C while `sipdeploy apply sip1` installs packages.
        Fix: `sipdeploy apply sip1` continues where it stopped.""",
    "SD534": """`--all-or-nothing` has ended with different releases on the hosts.
        All hosts were verified, then all were told to confirm; a host that confirms keeps the new
        release, even if the confirmation of another host fails.
        Situation: the connection to sip2 is lost at that moment.
        Fix: `sipdeploy apply sip2` completes the change, or `sipdeploy rollback sip1` takes it
        back.""",
    "SD536": """A unit that the site needs is masked, so systemd never starts it.
        Nothing on the host has changed.
        Situation: somebody ran `systemctl mask kamailio` on the host.
        Fix: on the host, `systemctl unmask kamailio.service`.""",
    "SD537": """The host is not permitted something that the daemons or the firewall need.
        It is usually a container without the capability CAP_NET_ADMIN, or one in which systemd may
        not create namespaces. Nothing on the host has changed.
        Situation: an LXC container without nesting.
        Fix: `pct set 101 --features nesting=1` on Proxmox; for nft, start the container with
        CAP_NET_ADMIN. A virtual machine needs neither.""",
    "SD540": """The host cannot build Asterisk. The configuration in use is unchanged.
        Situation: the tarball has another SHA-256 than the inventory, or a download fails.
        Fix: correct `install.asterisk.url` or `sha256` (`sha256sum FILE`), then
        `sipdeploy apply`, which reuses what is already built.""",
    "SD541": """apt rejects the Kamailio repository: its signature, or its contents.
        Nothing on the host has changed.
        Situation: the repository is signed with a new key.
        Fix: verify the new key with Kamailio's own announcement, then write its fingerprint into
        `install: {kamailio: {fingerprint: ...}}`.""",
    "SD602": """A file of `tls` cannot be read, or is not PEM.
        Example: `private_key: server.key` and the key has a passphrase
        Fix: `openssl pkey -in server.key -out server.key` removes the passphrase;
        `openssl x509 -in server.crt -noout -text` shows whether a certificate is PEM.""",
    "SD603": """The private key does not belong to the certificate.
        Example: `tls: {provider: files, certificate: new.crt, private_key: old.key}`
        Fix: name the matching key. `openssl x509 -in new.crt -noout -pubkey` and
        `openssl pkey -in new.key -pubout` print the same text for a pair.""",
    "SD604": """The certificate does not cover the domain, so browsers would refuse it.
        Only the subjectAltName counts: browsers ignore the Common Name (CN).
        Example: `domain: sip.example.com` and a certificate for www.example.com
        Fix: order a certificate for the domain, or correct `domain`.""",
    "SD605": """The certificate has expired, or is not valid yet.
        Situation: nobody renewed the files of `provider: files`.
        Fix: renew the files, then `sipdeploy apply`. With `provider: letsencrypt` the host renews
        by itself. If the certificate is new, check the clock: `timedatectl`.""",
    "SD606": """The certificate chain is in the wrong order (RFC 5246, section 7.4.2).
        The server's certificate comes first, followed by the one that signed it, and so on. It is
        a warning if the server's is first and only the others are in another order.
        Example: `cat chain.pem server.pem > fullchain.pem`
        Fix: `cat server.pem chain.pem > fullchain.pem`.""",
    "SD607": """The file of the certificate, or of the root, contains a private key.
        Everyone on the host may read that file, so its key would be known.
        Example: `cat server.key server.crt > server.pem` and `certificate: server.pem`
        Fix: `openssl storeutl -certs server.pem > server.crt` keeps only the certificates; name
        the key with `private_key`.""",
    "SD608": """The chain of the certificate is incomplete, so browsers refuse it.
        They do not fetch the certificate of the authority that signed it (the intermediate).
        Situation: `certificate: cert.pem`, where the authority delivered `fullchain.pem` too.
        Fix: `cat cert.pem chain.pem > fullchain.pem` and `certificate: fullchain.pem`. If an
        authority of your own signed it, append its root: the chain is then complete (SD617). Or
        add the root to the roots of this machine with `update-ca-certificates`.""",
    "SD609": """Browsers refuse this kind of certificate, although OpenSSL accepts it.
        They need an ECDSA key on P-256 or P-384 or an RSA key of 2048 bits, signatures with
        SHA-256 or better, and the usages digitalSignature and serverAuth if it lists usages.
        Situation: a key made with `openssl genpkey -algorithm ed25519`
        Fix: `openssl ecparam -name prime256v1 -genkey -noout -out server.key`, and get a
        certificate for that key.""",
    "SD610": """The ACME server or certbot refused to issue the certificate.
        The previous certificate stays in use. sipdeploy does not replace it by a self-signed one.
        Situation: the firewall of the provider blocks port 80.
        Fix: correct what the message names; /var/log/letsencrypt/sipdeploy/letsencrypt.log on the
        host has the details. Then `sipdeploy cert sip1 --test` rehearses a renewal.""",
    "SD611": """certbot cannot be started, or has no certificate to renew.
        Example: `sipdeploy cert sip1 --renew` before the first apply
        Fix: `sipdeploy apply sip1` requests the first certificate.""",
    "SD612": """The ACME server would not find the host under the domain.
        sipdeploy checks this first, because ACME servers limit failed attempts.
        Situation: the AAAA record of the domain contains the address of another machine.
        Fix: correct the A and AAAA records (`dig +short sip.example.com AAAA`), or write
        `tls: {challenge: dns-01, dns_plugin: rfc2136}`.""",
    "SD613": """No program on the host can answer the http-01 challenge on port 80.
        Without `tls.webroot` certbot answers it and needs the port. With `tls.webroot` a web
        server must serve that directory on port 80.
        Situation: nginx listens on port 80 and `tls.webroot` is not set.
        Fix: `tls: {webroot: /var/www/html}` (the directory that nginx serves), or stop nginx.""",
    "SD614": """Another firewall on the host keeps the ACME server out of port 80.
        It is an error while a certificate is to be requested, because failed attempts are limited.
        Situation: the rules of an image end with `iptables -A INPUT -j REJECT`.
        Fix: run the command of the message, or write
        `tls: {challenge: dns-01, dns_plugin: rfc2136}`.""",
    "SD615": """CAA records of the domain do not permit Let's Encrypt to issue (RFC 8659).
        Situation: `example.com. CAA 0 issue "ca.example.net"` in the DNS
        Fix: add `example.com. CAA 0 issue "letsencrypt.org"` to the DNS zone.""",
    "SD616": """The certificate demands OCSP stapling (must-staple), which Kamailio does not do.
        Firefox refuses such a certificate. Let's Encrypt no longer issues any.
        Situation: `must-staple = True` in /etc/letsencrypt/cli.ini on the host
        Fix: on the host, `sed -i '/^ *must-staple/d' /etc/letsencrypt/cli.ini`, then
        `sipdeploy apply sip1`. With `provider: files`, order a certificate without it.""",
    "SD617": """The certificate ends at a root that browsers do not have by themselves.
        Phones connect only from devices on which the root, or the self-signed certificate, is
        installed as trusted.
        Situation: an authority of your own signs the certificates of your company.
        Fix: install the root on every device, and write `# sipdeploy: ignore[SD617]` at the end
        of the line; or use a public authority: `tls: {provider: letsencrypt}`.""",
    "SD620": """The certificate on the disk of the host is missing or unusable.
        Situation: somebody deleted or replaced /etc/kamailio/tls/server.crt on the host.
        Fix: `sipdeploy apply sip1`.""",
    "SD621": """A port serves another certificate than the one on the disk, or none.
        Situation: Kamailio did not reload its certificate after a renewal.
        Fix: on the host, `kamcmd tls.reload`. If the port serves none,
        `journalctl -b -u kamailio` says why.""",
    "SD622": """The certificate expires soon; a renewal should have come weeks ago.
        Situation: `sipdeploy cert sip1 --days 14` and 10 days are left.
        Fix: `sipdeploy cert sip1 --renew`. With `provider: files`, renew the files, then
        `sipdeploy apply sip1`.""",
    "SD623": """The host renewed its certificate and cannot activate it; the old one stays in use.
        Situation: Kamailio rejected the certificate that certbot renewed.
        Fix: correct the error that the message quotes; then, on the host,
        `systemctl start certbot` tries again.""",
    "SD624": """The last run of certbot failed, or its timer does not run.
        Situation: somebody disabled certbot.timer on the host.
        Fix: on the host, `journalctl -u certbot` says why a run failed; `sipdeploy apply sip1`
        enables the timer.""",
    "SD701": """The number already belongs to a user.
        Example: `sipdeploy add-user 1001` twice
        Fix: choose another number (`sipdeploy users` lists those in use), or change the password
        of the user with `sipdeploy set-password 1001`. `sipdeploy users import FILE --update`
        changes the users that exist.""",
    "SD702": """The inventory has no user with this number.
        Example: `sipdeploy remove-user 1099`
        Fix: `sipdeploy users` lists the users; `sipdeploy add-user 1099` adds one.""",
    "SD703": """The file is written in a style that sipdeploy cannot edit safely.
        An edit would change other parts of the file. Nothing was written.
        Example: `? 1001` as a key, or a comment beside a user in braces that is to be removed
        Fix: make the edit that the message shows; then `sipdeploy init` generates the
        passwords.""",
    "SD704": """Another program changed the file while sipdeploy prepared its edit.
        Nothing was written.
        Situation: an editor saved inventory.yaml during `sipdeploy add-user`.
        Fix: run the same command again.""",
    "SD705": """The file cannot be read or written, or another sipdeploy holds the lock.
        Situation: the directory belongs to root and the command runs as another user.
        Fix: `ls -ld . inventory.yaml secrets.yaml` shows owner and mode. After a lock, run the
        same command again when the other one has ended.""",
    "SD706": """sipdeploy cannot store the new password, because its source is read-only.
        Example: `sipdeploy set-password 1001` with `password: {env: SIP_1001}`
        Fix: change the variable or the command's data yourself, then `sipdeploy apply`. For a
        command in `secrets`, add `store: "age -e -r age1... -o secrets.age"`.""",
    "SD707": """A line of the CSV file does not describe a user.
        sipdeploy reports all such lines, and imports no user.
        Example: a first line `name,password` (the column `number` is missing)
        Fix: start the file with `number,name,voicemail,max_contacts,password`;
        `sipdeploy users export` prints an example. Semicolons and tabs work like commas.""",
    "SD708": """The password is empty, or contains a control character.
        Example: `printf '' | sipdeploy set-password 1001 --password-stdin`
        Fix: `echo 'the new password' | sipdeploy set-password 1001 --password-stdin`.""",
    "SD709": """A new user, or one with a new password, cannot register; the host rolled back.
        Situation: Kamailio on the host does not load the new user database.
        Fix: on the host, `journalctl -b -u kamailio -u asterisk`; then `sipdeploy apply sip1`.""",
    "SD710": """The inventory contains the change, and a host does not have it yet.
        Situation: `sipdeploy add-user 1003 --apply sip1` and sip1 is switched off.
        Fix: `sipdeploy apply sip1` when the host is available; with `--overwrite` if the change
        has to replace an edit on the host.""",
    "SD711": """The apply would do more than the command says, and nobody has confirmed that.
        It could restart a service, install packages, or disconnect other users.
        Situation: `sipdeploy add-user 1003 --apply sip1` after another edit of the inventory, or
        with another secrets file than the one that the host was configured with.
        Fix: `sipdeploy plan sip1` shows the changes, and `sipdeploy apply sip1 --yes` makes them;
        the inventory has the change already.""",
    "SD712": """The user is removed, and some of its voicemail is still on the host.
        Situation: the host's disk failed during `remove-user 1001 --delete-voicemail`.
        Fix: on the host, `rm -r /var/spool/asterisk/voicemail/default/1001`.""",
    "SD713": """The user is removed, and a call with a service may still be active.
        Situation: Asterisk did not answer during `remove-user 1001 --end-calls`.
        Fix: on the host, `asterisk -rx 'core show channels'` lists calls, and
        `asterisk -rx 'channel request hangup CHANNEL'` ends one.""",
    "SD714": """Kamailio on the host does not answer, so nobody knows who is registered.
        Situation: `sipdeploy users --on sip1` while Kamailio is stopped
        Fix: on the host, `journalctl -b -u kamailio` says why;
        `sipdeploy apply sip1` starts it.""",
    "SD731": """sipdeploy cannot read the journal of the host.
        Situation: `sipdeploy calls sip1` on a host without systemd's journal, or with a damaged
        one.
        Fix: on the host, `journalctl -n 5` says why; `journalctl --verify` finds damaged
        files.""",
    "SD732": """Kamailio on the host does not begin a trace.
        Situation: somebody else traces a number, Kamailio is stopped, or its configuration is
        older than `sipdeploy trace`.
        Fix: wait for the end of the other trace, at most ten minutes, or
        `sipdeploy apply sip1`.""",
}
EXPLAIN: Mapping[str, str] = {code: inspect.cleandoc(text) for code, text in _MANUALS.items()}
