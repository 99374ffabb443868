"""The manual of every code, as `lint --explain` shows it.

The manual of a lint rule is the docstring of the rule.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPLAIN: Mapping[str, str] = {
    "SD001": "The command was asked for what does not exist.",
    "SD002": "The words of the command do not go together, or it would ask and nobody is at a"
    " terminal to answer.",
    "SD101": "The file is not YAML. Reading stops at the first such place.",
    "SD102": "The file is not UTF-8 text, or holds a control character, which YAML forbids.",
    "SD103": "A tab stands where YAML wants spaces; YAML forbids tabs as indentation.",
    "SD104": "A key stands twice in one mapping. YAML readers differ in which one they take,"
    " so sipdeploy takes neither.",
    "SD105": "Anchors (`&name`), aliases (`*name`) and merge keys (`<<`) are not supported:"
    " commands that edit the inventory could not tell what belongs to whom. Write the value out.",
    "SD106": "YAML tags (`!name`) have no meaning in an inventory.",
    "SD107": "The file holds several documents, divided by `---`; an inventory is one.",
    "SD108": "The file is empty, or holds nothing but comments.",
    "SD109": "The file, or a key in it, is not of a shape that an inventory can have.",
    "SD110": "The file cannot be read.",
    "SD201": "The key is not known. Keys are listed in inventory.example.yaml.",
    "SD202": "A key that has no default is missing.",
    "SD203": "The value is of another kind: text, a list (`- a`) or a mapping (`key: value`).",
    "SD204": "The key is there, its value is not.",
    "SD205": "A whole number within bounds is wanted.",
    "SD206": "`true` or `false` is wanted (`yes`, `no`, `on`, `off` do as well).",
    "SD207": "One of a few words is wanted.",
    "SD208": "Users have 2 to 15 digits; services 1 to 15 digits and stars.",
    "SD209": "The domain is a full DNS name: certificate, SIP realm and WebSocket carry it.",
    "SD210": "The e-mail address is that of the ACME account, to which warnings are sent.",
    "SD211": "An address is IPv4, IPv6, a host name that SSH can resolve, or `local`.",
    "SD212": "Media needs a numeric address that browsers reach; ICE candidates hold no names.",
    "SD213": "Two sockets cannot share a port. 22 is for SSH, 80 for ACME challenges.",
    "SD214": "Asterisk takes any port of `ports.rtp` for a call, so nothing else may be in it.",
    "SD215": "A range of ports is `FIRST-LAST`, from 1024 to 65535.",
    "SD216": "One number cannot be a user and a service: which one would ring?",
    "SD217": "A key that the chosen provider of certificates needs is missing.",
    "SD218": "A key has no effect with the chosen provider of certificates.",
    "SD219": "A web origin is scheme, host and port, as browsers send it, without a path.",
    "SD220": "The text has a control character, a line break, or too many characters.",
    "SD221": "A password is text, or exactly one of `env`, `file`, `command`.",
    "SD222": "sipdeploy writes for Kamailio 5.4 to 6.1 and Asterisk 16 to 22.",
    "SD223": "Names of hosts and logins go into paths and commands, so they are kept simple.",
    "SD224": "Two entries name one machine; the second would undo the first.",
    "SD225": "An ACME directory is an https URL.",
    "SD226": "A folder of a host is an absolute path; a DNS plugin of certbot is one word.",
    "SD227": "Where software comes from is a URL, and what it must be a SHA-256 or a fingerprint.",
    "SD230": "Every user needs a password: in the inventory, from a source named there, or in the"
    " secrets file. None is ever made up by `apply`: a lost secrets file would lock every phone"
    " out. `sipdeploy init` makes the missing ones.",
    "SD231": "A source of passwords named in the inventory gives nothing: a variable that is not"
    " set, a file that cannot be read, a command that fails or takes longer than 10 seconds.",
    "SD232": "The secrets file holds one mapping, `users`, from numbers to passwords.",
    "SD233": "The inventory may come from a stranger. So `lint` and `render` run no command of it,"
    " read no variable, and no file outside of its folder. `--trusted` says that it is yours: then"
    " `render` fetches passwords as `apply` does, and `lint` reads a secrets file elsewhere.",
    "SD304": "The secrets file holds every password in clear text; nobody but its owner may read"
    " it (mode 0600).",
    "SD401": "The host's own daemons judge the candidate before anything live changes: their"
    " parser reads it, and each is started on it for a moment, in a network of its own. This is"
    " what they say; the place is one of the candidate's files, which `sipdeploy render` writes"
    " for a look.",
    "SD420": "`render` writes only into directories that are new, empty, or made by itself.",
    "SD501": "The host has no such name, cannot be reached at its address, or its port for SSH"
    " is closed.",
    "SD502": "The host shows a key that no file of known hosts has. A key is never accepted"
    " blindly: compare it with the one on the host's own console, then add it as the message"
    " says.",
    "SD503": "The host shows another key than before, or one that was revoked: the host was made"
    " anew, or somebody else answers at its address. Find out which before you remove the old"
    " key.",
    "SD504": "The host takes none of the keys that SSH offers: those of `identity_file`, of"
    " ~/.ssh/config, of the agent, and the default ones. Passwords are never asked for.",
    "SD505": "The login is not root, and may not become root without a password.",
    "SD506": "The connection was lost, or a command did not end in time. The host finishes or"
    " undoes by itself what was begun; the next run tells which.",
    "SD507": "Another run has the lock of the host, or was faster. One apply at a time: the lock"
    " names who, what for and since when; that of a process that is no more is taken over.",
    "SD508": "~/.ssh/config has something for this host that cannot be used.",
    "SD509": "The host was asked something that changes nothing, and gave no usable answer.",
    "SD510": "The host runs a system that the files are not written for, or no systemd.",
    "SD511": "The host has a version of Kamailio or Asterisk that the files are not written for,"
    " or its archive has none.",
    "SD512": "There is too little room on a disk of the host. Checked first, for a disk that"
    " fills up in the middle costs more.",
    "SD513": "Every connected phone takes shared memory of Kamailio, which is given when it"
    " starts; the host has less than the users of the inventory will need.",
    "SD514": "Another program has a port that is to be ours.",
    "SD515": "The clock of the host is wrong: certificates and the times of logs go by it.",
    "SD516": "No interface of the host has the address that its services are to use. Behind 1:1"
    " NAT that is `private_address`.",
    "SD517": "Phones find a host by the domain, and as the host sees it, it points elsewhere.",
    "SD518": "A firewall that is not ours drops what it does not know, and has no rule for"
    " phones.",
    "SD519": "Kamailio before 5.7.5 shares between processes what OpenSSL 3 keeps for threads, and"
    " crashes under load (kamailio#3791). Kamailio's own repository has newer ones.",
    "SD520": "apt cannot fetch or install what is missing. No daemon was started, and the next"
    " apply goes on from there.",
    "SD521": "The candidate could not be written beside the live files; nothing live has changed.",
    "SD522": "The files could not be put in place; the ones before them were put back.",
    "SD523": "A reload or a start ended with an error; the release before was put back.",
    "SD524": "After the swap something did not hold in time: a unit, a port, the certificate"
    " that is served, an answer to SIP, or the phones that were to come back. The release before"
    " was put back.",
    "SD525": "A step could not be ended or taken back: the message says what is left, and the"
    " host may be between two states until somebody has looked.",
    "SD526": "Somebody edited a managed file on the host. An apply stops rather than lose that;"
    " an edit that is to stay belongs into the local file that the message names.",
    "SD527": "An apply ended in the middle, and the host, or this run, has put the release"
    " before back.",
    "SD528": "Nobody confirmed in time, so the host went back by itself before this run could.",
    "SD529": "A saved plan is carried out as it was shown, or not at all.",
    "SD530": "A host keeps its five newest releases; the one that was asked for is not among"
    " them, or cannot be read.",
    "SD531": "A host sent far more than any answer has: 8 MiB, or 128 MiB where the answer grows"
    " with the site. The command was ended and its output dropped; whatever was begun is undone."
    " A program on the host is broken, or somebody else has taken the host over.",
    "SD540": "The host could not build Asterisk: the tarball is not the one that is meant, or"
    " something is missing there. Nothing live has changed, and what is built is not lost.",
    "SD541": "apt does not take the signature of the repository, or finds no Kamailio in it."
    " Nothing has changed.",
    "SD602": "A file of `tls` cannot be read, or is not the PEM that it has to be.",
    "SD603": "Key and certificate do not belong together.",
    "SD604": "The certificate is for other names than the domain, so browsers would refuse it.",
    "SD605": "The certificate has expired, or is not valid yet.",
    "SD606": "Certificates of a chain follow each other: the server's first, then the one that"
    " signed it (RFC 5246, section 7.4.2). Some browsers mend another order, some do not.",
    "SD610": "The ACME server, or certbot, refused. What was served goes on being served; there"
    " is never a silent change to a self-signed certificate.",
    "SD611": "certbot could not be started for this, or has nothing to renew.",
    "SD612": "The ACME server will look for the host by the domain, and would not find it. Asked"
    " first, for the servers count failures.",
    "SD613": "The challenge http-01 is answered on port 80: by certbot, for which it must be"
    " free, or by a web server that gives out `tls.webroot`.",
    "SD614": "A firewall that is not ours keeps the ACME server from port 80.",
    "SD615": "CAA records of the DNS name who may issue certificates for a domain (RFC 8659).",
    "SD620": "The certificate on the disk of the host is missing, or will not do.",
    "SD621": "A port serves another certificate than the one on the disk, or none.",
    "SD622": "Too few days are left. A renewal should have come weeks ago.",
    "SD623": "A renewed certificate could not be made live, and the old one is served on.",
    "SD624": "certbot's last run failed, or its timer does not run.",
    "SD701": "A number can be given once. `sipdeploy users` lists those that are taken.",
    "SD702": "Only users of the inventory can be changed or removed.",
    "SD703": "The file is written in a way that an edit would not leave the rest of it alone,"
    " such as `? 1001` for a key. Nothing was written; the change is to be made by hand.",
    "SD704": "Somebody else changed the file while the change of it was being worked out, an"
    " editor for one. Nothing was written.",
    "SD705": "The file cannot be read or written, or another sipdeploy has it for too long.",
    "SD706": "The password of this user comes from where sipdeploy cannot put a new one: a"
    " variable, or a command without a `store` beside it.",
    "SD707": "A line of the CSV file is not a user. All such lines are told, and none is taken.",
    "SD708": "A password is one line of text without control characters.",
    "SD709": "A host does not let a user register who was just added or has a new password; the"
    " host went back to what it was before.",
    "SD710": "The inventory has the change and the host does not: nothing is lost, and the next"
    " `sipdeploy apply` brings it there.",
    "SD711": "The host lacks more than the change of users, and that may restart a service or"
    " install packages: nobody has agreed to it.",
    "SD712": "The user is gone, and messages of its box are still on the host.",
    "SD713": "The user is gone, and a call that it has with a service may still go on.",
}
