-- A destroyed version has no row any more. Nothing is left of its ciphertext, and the audit log says what it was and when it
-- went. So a rotation writes one page less, and what is rotated daily does not grow by it.
DELETE FROM secret_version WHERE state = 'destroyed';
