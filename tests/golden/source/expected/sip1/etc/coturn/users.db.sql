BEGIN TRANSACTION;
CREATE TABLE turnusers_lt (realm TEXT, name TEXT, hmackey TEXT, PRIMARY KEY (realm, name)) WITHOUT ROWID;
INSERT INTO "turnusers_lt" VALUES('sip.example.com','1001','f22ec662a06885ddf52a131da6f38c31');
COMMIT;
