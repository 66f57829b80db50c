/*
 * Hash tables of things that have an OID. An entry's first field is that OID; it is the key.
 */
#ifndef SIPHON_OID_HASH_H
#define SIPHON_OID_HASH_H

#include "pg.h"

template <typename Entry>
static inline HTAB *
oid_hash_make(const char *name, MemoryContext context)
{
	HASHCTL control = {};

	control.keysize = sizeof(Oid);
	control.entrysize = sizeof(Entry);
	control.hcxt = context;
	return hash_create(name, 64, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* NULL if there is none. */
template <typename Entry>
static inline Entry *
oid_hash_find(HTAB *hash, Oid oid)
{
	return static_cast<Entry *>(hash_search(hash, &oid, HASH_FIND, nullptr));
}

/* The entry; makes it, with zeros behind the OID, if there is none. */
template <typename Entry>
static inline Entry *
oid_hash_enter(HTAB *hash, Oid oid, bool *found = nullptr)
{
	bool was_there;
	Entry *entry = static_cast<Entry *>(hash_search(hash, &oid, HASH_ENTER, &was_there));

	if (!was_there)
		memset(reinterpret_cast<char *>(entry) + sizeof(Oid), 0, sizeof(Entry) - sizeof(Oid));
	if (found)
		*found = was_there;
	return entry;
}

#endif
